"""`layermesh export` and `import`: an image leaves one node as a file, and is pulled from another that never met it."""

import asyncio
import json
import struct
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.digest import Digest
from node.layout import blob_path
from tests.facade.cli.started import Started, run, started
from tests.facade.images.layouts import attested, by_umoci, layout_of, to_car, to_folder
from tests.fakes.images import FakeImage, FakeIndex, all_blobs, make_image, make_index
from tests.fakes.registry import FakeRegistry
from tests.kubo.daemon import built_kubo, kubo_environment, lay_repository
from tests.node.test_car import V2_PRAGMA

IMAGE = make_image("exported", (1_200_000, 1000))
OTHER = make_image("other", (500,))
SEVERAL = make_index("several", (2000,))
NOWHERE = ("--upstream", "docker.io=http://127.0.0.1:1")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Started]:
    with started(tmp_path, tmp_path / "a", *NOWHERE) as one:
        yield one


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Started]:
    with started(tmp_path, tmp_path / "b", *NOWHERE) as one:
        yield one


def send(node: Started, method: str, path: str, data: bytes | None = None, media_type: str = "") -> bytes:
    headers = {"Content-Type": media_type} if media_type else {}
    request = urllib.request.Request(f"http://{node.address('facade')}{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        body: bytes = answer.read()
        return body


def push(node: Started, image: FakeImage | FakeIndex, name: str, tag: str) -> str:
    """Push an image; how people write it."""
    for blob in all_blobs(image):
        if "manifest" in blob.media_type or "index" in blob.media_type:
            selector = tag if blob == image.manifest else str(blob.digest)
            send(node, "PUT", f"/v2/{name}/manifests/{selector}", blob.data, blob.media_type)
        else:
            path = f"/v2/{name}/blobs/uploads/?digest={blob.digest}"
            send(node, "POST", path, blob.data, "application/octet-stream")
    return f"{node.address('facade')}/{name}:{tag}"


def assert_pulled(node: Started, image: FakeImage, name: str, selector: object) -> None:
    assert send(node, "GET", f"/v2/{name}/manifests/{selector}") == image.manifest.data
    for blob in image.blobs:
        assert send(node, "GET", f"/v2/{name}/blobs/{blob.digest}") == blob.data


def as_ipfs_tools_read(node: Started, root: str) -> bytes:
    with urllib.request.urlopen(f"http://{node.address('mesh')}/ipfs/{root}?format=car", timeout=20) as answer:
        car: bytes = answer.read()
        return car


def failed(node: Started, *command: str) -> tuple[int, str]:
    """The exit status of a command that fails, and the one line that it says."""
    done: subprocess.CompletedProcess[str] = run(*command, "--admin", node.address("admin"), home=node.home)
    assert done.returncode and done.stderr.count("\n") == 1, done.stderr
    return done.returncode, done.stderr


def is_there(node: Started, name: str, selector: object) -> bool:
    try:
        send(node, "GET", f"/v2/{name}/manifests/{selector}")
    except urllib.error.HTTPError:
        return False
    return True


@pytest.mark.parametrize("form", ["images.car", "images"])
def test_own_images_are_taken_from_one_node_to_another(
    tmp_path: Path, node: Started, elsewhere: Started, form: str
) -> None:
    refs = [push(node, IMAGE, "team/app", "v1"), push(node, SEVERAL, "several", "v1")]
    taken = node.ask("export", *refs, form)
    blobs = {blob.digest: blob.size for image in (IMAGE, SEVERAL) for blob in all_blobs(image)}
    assert (taken["blobs"], taken["fetched_bytes"]) == (len(blobs), 0)
    brought = elsewhere.ask("import", form)
    assert taken["root"] in (brought["root"], None)
    assert brought["images"] == [
        {"name": "several:v1", "digest": str(SEVERAL.manifest.digest)},
        {"name": "team/app:v1", "digest": str(IMAGE.manifest.digest)},
    ]
    assert brought["sent_bytes"] == sum(blobs.values())
    assert_pulled(elsewhere, IMAGE, "team/app", "v1")
    for child in SEVERAL.images:
        assert_pulled(elsewhere, child, "several", child.manifest.digest)
    again = elsewhere.ask("import", form)
    assert (again["root"], again["images"], again["sent_bytes"]) == (brought["root"], brought["images"], 0)


async def test_a_mirrored_image_is_fetched_taken_and_pulled_where_there_is_no_network(
    tmp_path: Path, elsewhere: Started
) -> None:
    async with FakeRegistry() as registry:
        registry.push("library/app", IMAGE, "3")
        with started(tmp_path, tmp_path / "a", "--upstream", f"docker.io={registry.url}") as node:
            taken = await asyncio.to_thread(node.ask, "export", "app:3", "app.car")
            assert taken["fetched_bytes"] == sum(blob.size for blob in IMAGE.blobs)
            assert taken["images"] == [{"name": "docker.io/library/app:3", "digest": str(IMAGE.manifest.digest)}]
            again = await asyncio.to_thread(node.ask, "export", "docker.io/library/app:3", "again.car")
            assert (again["root"], again["fetched_bytes"]) == (taken["root"], 0)
    assert (tmp_path / "app.car").read_bytes() == (tmp_path / "again.car").read_bytes()
    assert elsewhere.ask("import", "--public", "app.car")["root"] == taken["root"]
    assert_pulled(elsewhere, IMAGE, "docker.io/library/app", "3")
    assert as_ipfs_tools_read(elsewhere, taken["root"]) == (tmp_path / "app.car").read_bytes()
    from_there = elsewhere.ask("export", "app:3", "third.car")  # the same on every node
    assert (from_there["root"], (tmp_path / "third.car").read_bytes()) == (
        taken["root"],
        (tmp_path / "app.car").read_bytes(),
    )


def test_one_platform_is_taken_and_brought(tmp_path: Path, node: Started, elsewhere: Started) -> None:
    arm64 = SEVERAL.images[1]
    ref = push(node, SEVERAL, "several", "v1")
    assert node.ask("export", "--platform", "linux/arm64", ref, "arm64.car")["blobs"] == len(list(all_blobs(arm64)))
    elsewhere.ask("import", "--as", "team/arm64", "arm64.car")
    assert_pulled(elsewhere, arm64, "team/arm64", "v1")
    status, said = failed(node, "export", "--platform", "linux/s390x", ref, "no.car")
    assert status == 1 and "there are linux/amd64, linux/arm64" in said


def test_a_folder_keeps_the_images_that_it_has(tmp_path: Path, node: Started, elsewhere: Started) -> None:
    to_folder(layout_of(OTHER, name="theirs:v9"), tmp_path / "layout")
    for _ in range(2):
        node.ask("export", push(node, IMAGE, "team/app", "v1"), "layout")
    names = [each["name"] for each in elsewhere.ask("import", "layout")["images"]]
    assert names == ["theirs:v9", "team/app:v1"]
    assert_pulled(elsewhere, OTHER, "theirs", "v9")


def test_what_an_import_that_was_cut_short_brought_is_not_sent_again(tmp_path: Path, elsewhere: Started) -> None:
    to_folder(layout_of(IMAGE), tmp_path / "layout")
    layer = IMAGE.layers[0]
    admin = f"http://{elsewhere.address('admin')}/api/own/blob?digest={layer.digest}"
    with urllib.request.urlopen(urllib.request.Request(admin, layer.data, method="PUT"), timeout=20):
        pass
    assert not is_there(elsewhere, "team/app", "v1")
    sent = elsewhere.ask("import", "layout")["sent_bytes"]
    assert sent == sum(blob.size for blob in all_blobs(IMAGE)) - layer.size
    assert_pulled(elsewhere, IMAGE, "team/app", "v1")


def test_images_of_buildx_and_umoci_are_brought_and_pulled(elsewhere: Started) -> None:
    to_folder(attested(*SEVERAL.images), elsewhere.home / "buildx")
    (elsewhere.home / "buildx" / "ingest").mkdir()
    to_folder(by_umoci(OTHER), elsewhere.home / "umoci")
    (brought,) = elsewhere.ask("import", "buildx")["images"]
    assert brought["name"] == "docker.io/library/app:v1"
    pulled = send(elsewhere, "GET", "/v2/docker.io/library/app/manifests/v1")
    assert str(Digest.of(pulled)) == brought["digest"]
    for child in json.loads(pulled)["manifests"]:
        manifest = json.loads(send(elsewhere, "GET", f"/v2/docker.io/library/app/manifests/{child['digest']}"))
        for blob in (manifest["config"], *manifest["layers"]):
            data = send(elsewhere, "GET", f"/v2/docker.io/library/app/blobs/{blob['digest']}")
            assert str(Digest.of(data)) == blob["digest"]
    named = [each["name"] for each in elsewhere.ask("import", "--as", "team/umoci", "umoci")["images"]]
    assert named == ["team/umoci:v1", "team/umoci:v2"]
    assert json.loads(send(elsewhere, "GET", "/v2/team/umoci/manifests/v1"))["layers"] == []
    assert send(elsewhere, "GET", f"/v2/team/umoci/blobs/{OTHER.layers[0].digest}") == OTHER.layers[0].data


def test_a_carv2_is_refused_with_what_to_do_and_that_helps(elsewhere: Started) -> None:
    home = elsewhere.home
    root = to_car(layout_of(IMAGE), home / "1.car")
    first = (home / "1.car").read_bytes()
    head = struct.pack("<QQQ", len(V2_PRAGMA) + 40, len(first), 0)
    (home / "2.car").write_bytes(V2_PRAGMA + bytes(16) + head + first)
    status, said = failed(elsewhere, "import", "2.car")
    assert status == 2 and "2.car: CAR: it is a CARv2" in said
    assert "`ipfs dag import FILE`, then `ipfs dag export ROOT`" in said
    (home / "ipfs").mkdir()
    nowhere = "/ip4/127.0.0.1/tcp/0"
    lay_repository(home / "ipfs", swarm=nowhere, api=nowhere, gateway=nowhere, settings={})
    for command in (["import", str(home / "2.car")], ["export", str(root)]):
        done = subprocess.run(
            [built_kubo(), "dag", *command],
            env=kubo_environment(home / "ipfs"),
            capture_output=True,
            timeout=30,
            check=True,
        )
    (home / "3.car").write_bytes(done.stdout)
    elsewhere.ask("import", "3.car")
    assert_pulled(elsewhere, IMAGE, "team/app", "v1")


def _swapped(path: Path) -> None:
    """Other bytes under a layer's name, of its length, in a layout that is sound but for that."""
    files = layout_of(IMAGE)
    files[blob_path(IMAGE.layers[0].digest)] = bytes(IMAGE.layers[0].size)
    to_car(files, path)


def _cut(path: Path) -> None:
    to_car(layout_of(IMAGE), path)
    path.write_bytes(path.read_bytes()[:-100])


def _changed(path: Path) -> None:
    to_car(layout_of(IMAGE), path)
    data = path.read_bytes()
    path.write_bytes(data.replace(IMAGE.layers[0].data[-64:], bytes(64)))


def _incomplete(path: Path) -> None:
    files = layout_of(IMAGE)
    del files[blob_path(IMAGE.layers[0].digest)]
    to_car(files, path)


@pytest.mark.parametrize("lie", [_swapped, _cut, _changed, _incomplete])
def test_a_file_that_lies_is_refused_and_nothing_of_it_is_there(elsewhere: Started, lie: object) -> None:
    assert callable(lie)
    lie(elsewhere.home / "lie.car")
    failed(elsewhere, "import", "lie.car")
    assert not is_there(elsewhere, "team/app", "v1")
    assert not is_there(elsewhere, "team/app", IMAGE.manifest.digest)
    for blob in IMAGE.blobs:
        with pytest.raises(urllib.error.HTTPError):
            send(elsewhere, "GET", f"/v2/team/app/blobs/{blob.digest}")
    to_car(layout_of(IMAGE), elsewhere.home / "right.car")
    elsewhere.ask("import", "right.car")
    assert_pulled(elsewhere, IMAGE, "team/app", "v1")


def test_what_cannot_be_done_is_said_in_one_line(node: Started) -> None:
    ref = push(node, IMAGE, "team/app", "v1")
    (node.home / "file").write_bytes(b"mine")
    (node.home / "folder").mkdir()
    (node.home / "folder" / "mine").write_bytes(b"mine")
    to_car(layout_of(OTHER, name="quay.example/team/app:v1"), node.home / "foreign.car")
    to_car(layout_of(OTHER, name="v1"), node.home / "nameless.car")
    for command, status, reason in (
        (("export", ref, "file"), 2, "ends in .car"),
        (("export", ref, "folder"), 2, "not empty, and no image layout"),
        (("export", ref, "file/x"), 1, "file/x: it cannot be written: Not a directory"),
        (("export", ref, "no/x.car"), 2, "that it is to be in is not there"),
        (("export", "team/app:v1", "x.car"), 1, "the cluster's own is asked for as 127.0.0.1:"),
        (("export", f"{node.address('facade')}/team/app:v2", "x.car"), 1, "no manifest v2"),
        (("export", f"{node.address('facade')}/team/none:v1", "x.car"), 1, "nothing was ever pushed to it"),
        (("export", "nobody/app:v1", "x.car"), 1, "layermesh: nobody/app:v1: 127.0.0.1 gives no answer"),
        (("export", str(Digest.of(b"x")), "x.car"), 2, "NAME@DIGEST"),
        (("export", "--platform", "arm64", ref, "x.car"), 2, "OS/ARCH"),
        (("import", "no.car"), 2, "no.car: No such file"),
        (("import", "file"), 2, "file: CAR: it is cut short"),
        (("import", "folder"), 2, "oci-layout"),
        (("import", "foreign.car"), 2, "is not configured here: name the image with --as"),
        (("import", "nameless.car"), 2, "name it with --as REF"),
    ):
        done, said = failed(node, *command)
        assert (done, reason in said) == (status, True), said
    assert sorted(path.name for path in (node.home / "folder").iterdir()) == ["mine"]


def test_a_folder_in_which_a_command_was_killed_at_once_is_gone_on_with(node: Started) -> None:
    ref, folder = push(node, OTHER, "team/app", "v1"), node.home / "layout"
    folder.mkdir()
    (folder / ".oci-layout.partial").write_bytes(b"{")
    done = run("export", ref, "layout", "--admin", node.address("admin"), home=node.home)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["blobs", "index.json", "oci-layout"]


def test_what_else_a_file_has_and_lies_about_keeps_no_image_from_coming(elsewhere: Started) -> None:
    file = elsewhere.home / "more.car"
    to_car({**layout_of(IMAGE), ("more",): b"more" * 100}, file)
    file.write_bytes(file.read_bytes().replace(b"more" * 100, b"less" * 100))
    done = run("import", "more.car", "--json", "--admin", elsewhere.address("admin"), home=elsewhere.home)
    assert (done.returncode, json.loads(done.stdout)["kept"]) == (0, None)
    assert "not kept as it came" in done.stderr and done.stderr.count("\n") == 1
    assert_pulled(elsewhere, IMAGE, "team/app", "v1")


def test_what_is_shown_names_the_images_and_the_root(node: Started) -> None:
    ref = push(node, OTHER, "team/app", "v1")
    shown = run("export", ref, "x.car", "--admin", node.address("admin"), home=node.home)
    lines = shown.stdout.splitlines()
    assert lines[0] == f"team/app:v1: {OTHER.manifest.digest}"
    assert lines[1].startswith("x.car: 3 blobs, ") and lines[2].startswith("root bafybei")
    shown = run("import", "x.car", "--admin", node.address("admin"), home=node.home)
    assert shown.stdout.splitlines()[1] == "x.car: 3 blobs are here, 0 B were not so already"
    assert shown.stderr == ""
