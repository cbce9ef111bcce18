"""`layermesh export` and `import`, killed in the middle: run again they go on, and what comes of it is the same."""

import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from facade.images.packing import partial_of
from tests.facade.cli.held import relayed
from tests.facade.cli.started import LIMIT_S, PROGRAM, Started, environment, run, started
from tests.facade.images.layouts import layout_of, to_car, to_folder
from tests.fakes.images import all_blobs, make_image

MIB = 1024 * 1024
IMAGE = make_image("cut short", (6 * MIB,) * 4)
ALL = sum(blob.size for blob in all_blobs(IMAGE))
MANIFEST = "/v2/team/app/manifests/v1"
NOWHERE = ("--upstream", "docker.io=http://127.0.0.1:1")
SIGNALS = pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image as a folder."""
    folder = tmp_path_factory.mktemp("layout") / "layout"
    to_folder(layout_of(IMAGE), folder)
    return folder


@pytest.fixture(scope="module")
def car(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image as a CAR."""
    file = tmp_path_factory.mktemp("car") / "image.car"
    to_car(layout_of(IMAGE), file)
    return file


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, layout: Path) -> Iterator[Started]:
    """A node that has the image."""
    home = tmp_path_factory.mktemp("has")
    with started(home, home / "data", *NOWHERE) as one:
        one.ask("import", str(layout))
        yield one


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Started]:
    """A node that has nothing."""
    with started(tmp_path, tmp_path / "data", *NOWHERE) as one:
        yield one


def cut_short(
    node: Started, number: int, *command: str, home: Path, caught: Callable[[], bool] = lambda: True
) -> tuple[int, str]:
    """Run a command, and end it by a signal in its third layer, once `caught`; its exit status and what it said."""
    with (
        relayed(node.address("admin"), 14 * MIB) as relay,
        subprocess.Popen(
            [*PROGRAM, *command, "--admin", relay.address],
            env=environment(home),
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            assert relay.held.wait(LIMIT_S), f"{command} sent {relay.sent} and got {relay.got} bytes"
            deadline = time.monotonic() + LIMIT_S
            while not caught():  # what was passed on may not have been read yet
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(number)
            said = "".join(process.communicate(timeout=LIMIT_S))
        finally:
            process.kill()
    return process.returncode, said


def gone_on(node: Started, *command: str, home: Path) -> int:
    """Run a command to its end; how many bytes went from the node to it."""
    with relayed(node.address("admin")) as relay:
        done = run(*command, "--admin", relay.address, home=home)
        assert (done.returncode, done.stderr) == (0, "")
        return relay.got


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_ended(status: int, said: str, number: int) -> None:
    """By the signal, and with one line where it could be said."""
    expected = (-signal.SIGKILL, "") if number == signal.SIGKILL else (130, "layermesh: interrupted")
    assert (status, said.strip()) == expected


@SIGNALS
def test_an_export_to_a_car_goes_on_where_it_was_cut(tmp_path: Path, node: Started, number: int) -> None:
    ref, file = f"{node.address('facade')}/team/app:v1", tmp_path / "x.car"

    def caught() -> bool:
        return partial_of(file).stat().st_size > 12 * MIB

    assert_ended(*cut_short(node, number, "export", ref, "x.car", home=tmp_path, caught=caught), number)
    left = partial_of(file).stat().st_size
    assert left < ALL and not file.exists()
    assert gone_on(node, "export", ref, "x.car", home=tmp_path) < ALL - left + MIB
    assert not partial_of(file).exists()
    node.ask("export", ref, str(tmp_path / "uninterrupted.car"))
    assert file.read_bytes() == (tmp_path / "uninterrupted.car").read_bytes()


@SIGNALS
def test_an_export_to_a_folder_goes_on_where_it_was_cut(tmp_path: Path, node: Started, number: int) -> None:
    ref, folder = f"{node.address('facade')}/team/app:v1", tmp_path / "x"

    def there() -> int:
        return sum(path.stat().st_size for path in (folder / "blobs" / "sha256").iterdir())

    cut = cut_short(node, number, "export", ref, "x", home=tmp_path, caught=lambda: there() > 13 * MIB)
    assert_ended(*cut, number)
    assert not (folder / "index.json").exists()
    left = there()
    assert gone_on(node, "export", ref, "x", home=tmp_path) < ALL - left + MIB
    node.ask("export", ref, str(tmp_path / "uninterrupted"))
    assert files_in(folder) == files_in(tmp_path / "uninterrupted")


@pytest.mark.parametrize(("number", "form"), [(signal.SIGKILL, "car"), (signal.SIGINT, "layout")])
def test_an_import_that_was_cut_brings_what_lacks_and_then_all_is_there(
    tmp_path: Path, elsewhere: Started, number: int, form: str, request: pytest.FixtureRequest
) -> None:
    source = str(request.getfixturevalue(form))
    assert_ended(*cut_short(elsewhere, number, "import", source, home=tmp_path), number)
    url = f"http://{elsewhere.address('facade')}"
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(url + MANIFEST, timeout=20)
    assert 0 < elsewhere.ask("import", source)["sent_bytes"] <= ALL - 2 * IMAGE.layers[0].size
    with urllib.request.urlopen(url + MANIFEST, timeout=20) as answer:
        assert answer.read() == IMAGE.manifest.data
    for blob in IMAGE.blobs:
        with urllib.request.urlopen(f"{url}/v2/team/app/blobs/{blob.digest}", timeout=20) as answer:
            assert answer.read() == blob.data
