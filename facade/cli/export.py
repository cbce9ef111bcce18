"""`layermesh export`."""

import base64
import http.client
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import click

from facade.cli.asking import LONG_S, ask, fetched, refused, told
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.progress import Counted, counting
from facade.cli.showing import plain, show_json, size
from facade.images.contracts import Body
from facade.images.folder import alone_in, open_folder_layout, unpack
from facade.images.packing import pack, partial_of
from facade.images.taking import Image, Known, dag_of, index_of, small_files, walk
from facade.images.tree import Path as LayoutPath
from facade.images.tree import Tree
from facade.settings import Address
from node.digest import Digest
from node.errors import InvalidError, UnreachableError
from node.layout import INDEX_FILE, LAYOUT_FILE, ImageName, blob_path, encode_index, others
from node.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from node.platforms import Platform, choose
from node.reference import Repository, Tag
from node.unixfs import Dag, build_dag

CAR: Final = ".car"


@click.command("export", short_help="Write images to a CAR file or a folder.")
@config_option
@key_options("--admin")
@click.option("--platform", metavar="OS/ARCH[/VARIANT]", help="Of images for several platforms, take one.")
@json_option
@click.argument("refs", metavar="REF...", nargs=-1, required=True)
@click.argument("target", metavar="FILE.car|DIR", type=click.Path(path_type=Path))
def command(
    config: Path | None, as_json: bool, platform: str | None, refs: tuple[str, ...], target: Path, **flags: object
) -> None:
    """Write images to FILE.car, which Kubo and `layermesh import` read, or to the folder DIR; both are OCI layouts.

    REF is an image as Docker writes it (alpine, ghcr.io/org/app:1.2), or what was pushed here by the name it was pushed
    by (127.0.0.1:5050/team/app:1). What this node does not hold is fetched first. All platforms of an image are taken,
    with what its index names; signatures and other referrers are images of their own.

    The file appears when it is whole. A command that was cut short goes on where it stopped.
    """
    admin = load(flags, os.environ, config).admin.listen.address
    wanted = Platform.parse(platform) if platform else None
    _check_target(target)
    images = [_image(admin, ref, wanted) for ref in refs]
    with counting("fetching", None, show=not as_json) as fetching:
        for image in images:
            _fetch(admin, image, fetching)
    write = _to_car if target.suffix == CAR else _to_folder
    report = write(admin, images, target, show=not as_json)
    _show(report, images, fetching, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Report:
    target: Path
    size: int
    written: Counted
    root: str | None = None


def _check_target(target: Path) -> None:
    """Find before anything is fetched what could not be written afterwards."""
    try:
        if target.suffix == CAR:
            if target.is_dir():
                raise InvalidError(f"{target}: it is a folder; name a file, or a folder without {CAR}")
            if not target.absolute().parent.is_dir():
                raise InvalidError(f"{target}: the folder that it is to be in is not there")
        elif target.exists() and not target.is_dir():
            raise InvalidError(f"{target}: name a file that ends in {CAR}, or a folder")
        elif target.is_dir() and not (target / LAYOUT_FILE).is_file() and set(target.iterdir()) - {_begun(target)}:
            raise InvalidError(f"{target}: the folder is not empty, and no image layout")
    except OSError as error:
        raise InvalidError(f"{target}: {error.strerror}") from None


def _begun(folder: Path) -> Path:
    """What is in a folder at first that a command was killed in."""
    return partial_of(folder / LAYOUT_FILE)


def _image(admin: Address, ref: str, platform: Platform | None) -> Image:
    found = ask(admin, "/api/images/named", {"ref": ref}, LONG_S)
    repository = Repository(found["namespace"], found["repository"])
    root = _manifest(found)
    for _ in range(4):
        if platform is None or not root.is_index:
            break
        root = _child(admin, repository, *choose(root.data, platform))
    tag = Tag.parse(found["tag"]) if found["tag"] else None
    name = ImageName(repository, tag)
    return Image(name, walk(str(name), root, partial(_child, admin, repository)))


def _child(admin: Address, repository: Repository, digest: Digest, media_type: str, length: int = 0) -> Manifest:
    found = ask(admin, "/api/images/manifest", _query(repository, digest), LONG_S)
    return _manifest(found)


def _manifest(found: Any) -> Manifest:
    data, digest = base64.b64decode(found["data"]), Digest.parse(found["digest"])
    if Digest.of(data, digest.algorithm) != digest:
        raise UnreachableError(f"{digest}: the node gave other bytes")
    return parse_manifest(data, found["media_type"], digest)


def _fetch(admin: Address, image: Image, fetching: Counted) -> None:
    """Have the node hold all blobs of an image."""
    repository = image.name.repository
    names = {"namespace": repository.namespace, "repository": repository.name}
    question = {**names, "digests": [str(digest) for digest in image.contents.sizes]}
    before, done = fetching.bytes, False
    for line in told(admin, "/api/images/fetch", question):
        if "error" in line:
            raise refused(line["status"], f"{image.name}: {line['error']}")
        fetching.more(max(0, before + line["received"] - fetching.bytes))
        done = line.get("done", False)
    if not done:
        raise UnreachableError(f"{image.name}: the node broke off; run the same command again to go on")


class _FromNode:
    """Blobs of images, as the node gives them."""

    def __init__(self, admin: Address, images: Sequence[Image]) -> None:
        self._admin = admin
        self._targets = {
            blob_path(digest): _query(image.name.repository, digest)
            for image in images
            for digest in image.contents.sizes
        }

    @contextmanager
    def open(self, path: LayoutPath, start: int) -> Iterator[Body]:
        """Implements `Files.open`."""
        target = f"/api/images/blob?{urlencode(self._targets[path], quote_via=quote)}"
        with fetched(self._admin, target, {"Range": f"bytes={start}-"} if start else None) as response:
            yield _Body(response, path[-1])


class _Body:
    """An answer's bytes."""

    def __init__(self, response: http.client.HTTPResponse, name: str) -> None:
        self._response = response
        self._name = name

    def readinto(self, buffer: memoryview, /) -> int:
        """Implements `Body.readinto`."""
        try:
            return self._response.readinto(buffer)
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self._name}: the node broke off: {error}") from None


def _to_car(admin: Address, images: Sequence[Image], file: Path, *, show: bool) -> _Report:
    known = small_files(images, index_of(images))
    dags = {path: dag_of(data) for path, data in known.items()}
    for image in images:
        dags.update({blob_path(digest): _dag(admin, image, digest) for digest in image.contents.blobs})
    tree = Tree(dags)
    files = Known(known, _FromNode(admin, images))
    with counting("writing", sum(dag.size for dag in dags.values()), show=show) as writing:
        length = pack(tree, files, file, writing.more)
    return _Report(file, length, writing, str(tree.root))


def _dag(admin: Address, image: Image, digest: Digest) -> Dag:
    found = ask(admin, "/api/images/dag", _query(image.name.repository, digest), LONG_S)
    if found["size"] != image.contents.sizes[digest]:
        raise InvalidError(f"{digest}: {image.name} says {image.contents.sizes[digest]} bytes, it has {found['size']}")
    return build_dag(found["size"], base64.b64decode(found["leaves"]))


def _to_folder(admin: Address, images: Sequence[Image], folder: Path, *, show: bool) -> _Report:
    sizes = {digest: length for image in images for digest, length in image.contents.sizes.items()}
    with alone_in(folder), counting("writing", sum(sizes.values()), show=show) as writing:
        index = encode_index([(image.name, image.contents.root) for image in images], _others(folder, images))
        files = Known(small_files(images, index), _FromNode(admin, images))
        unpack(folder, sizes, files, index, writing.more)
    return _Report(folder, sum(sizes.values()), writing)


def _others(folder: Path, images: Sequence[Image]) -> list[dict[str, Any]]:
    """What the folder lists already, and will list still."""
    if not (folder / INDEX_FILE).exists():
        return []
    try:
        with open_folder_layout(folder) as layout:
            return others(layout.small((INDEX_FILE,), MAX_MANIFEST_BYTES), [image.name for image in images])
    except InvalidError as error:
        raise InvalidError(f"{folder}: {error}") from None


def _query(repository: Repository, digest: Digest) -> dict[str, str]:
    return {"namespace": repository.namespace, "repository": repository.name, "digest": str(digest)}


def _show(report: _Report, images: Sequence[Image], fetching: Counted, *, as_json: bool) -> None:
    blobs = {digest for image in images for digest in image.contents.sizes}
    if as_json:
        names = [{"name": str(image.name), "digest": str(image.contents.root.digest)} for image in images]
        summary = {"file": str(report.target), "root": report.root, "images": names, "blobs": len(blobs)}
        rates = {"fetched_bytes": fetching.bytes, "seconds": report.written.seconds, "rate": report.written.rate}
        show_json({**summary, "bytes": report.size, **rates})
        return
    for image in images:
        click.echo(plain(f"{image.name}: {image.contents.root.digest}"))
    if fetching.bytes:
        click.echo(f"fetched {size(fetching.bytes)}, {size(fetching.rate)}/s")
    click.echo(plain(f"{report.target}: {len(blobs)} blobs, {size(report.size)}, {size(report.written.rate)}/s"))
    if report.root:
        click.echo(f"root {report.root}")
