"""`layermesh import`."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from facade.cli.asking import send
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.progress import Counted, counting
from facade.cli.showing import plain, show_json, size
from facade.images.bringing import Brought, brought_images
from facade.images.carfile import CarLayout, open_car
from facade.images.contracts import Layout
from facade.images.folder import open_folder_layout
from facade.settings import Address
from node.cid import Cid
from node.digest import Digest
from node.errors import InvalidError, MismatchError
from node.foreign import Part, Whole
from node.platforms import Platform

_AT_ONCE: Final = 10_000
_MOST_BYTES: Final = 2 * 1024 * 1024
"""So many bytes of blocks are sent at once, and one block more."""
_PART_BYTES: Final = 1024


@click.command("import", short_help="Read images from a CAR file or a folder.")
@config_option
@key_options("--admin")
@click.option("--as", "name", metavar="REF", help="What the image is to be called; without a tag, all keep theirs.")
@click.option("--platform", metavar="OS/ARCH[/VARIANT]", help="Of images for several platforms, take one.")
@click.option("--public", is_flag=True, help="Let anybody have it, not the members of this cluster alone.")
@json_option
@click.argument("source", metavar="FILE.car|DIR", type=click.Path(path_type=Path))
def command(
    config: Path | None,
    as_json: bool,
    name: str | None,
    platform: str | None,
    public: bool,
    source: Path,
    **flags: object,
) -> None:
    """Bring in images from an OCI layout: a CAR of one (by `layermesh export`, or Kubo's `dag export`), or a folder.

    An image is known by the name that the layout gives it: behind a registry's name (docker.io/library/alpine:3) it is
    what this node serves for it while that registry cannot answer; without one (team/app:1) it is one of the cluster's
    own. It is there whole or not at all. A command that was cut short goes on where it stopped.
    """
    admin = load(flags, os.environ, config).admin.listen.address
    wanted = Platform.parse(platform) if platform else None
    try:
        with _opened(source) as layout:
            images = brought_images(layout, name, wanted)
            _admit(admin, images, public=public, checked=True)
            sent = _bring(admin, layout, images, show=not as_json)
            admitted = _admit(admin, images, public=public, checked=False)
            own = _own_root(layout, admitted["root"]) if wanted is None else None
            if own is not None and not _keep(admin, own, images, public=public):
                own = None
    except (InvalidError, MismatchError) as error:
        raise type(error)(f"{source}: {error}") from None
    _show(source, admitted | {"own": own and str(own.root)}, images, sent, as_json=as_json)


def _opened(source: Path) -> AbstractContextManager[Layout]:
    return open_folder_layout(source) if source.is_dir() else open_car(source)


def _admit(admin: Address, images: Sequence[Brought], *, public: bool, checked: bool) -> Any:
    """Have the images entered, or asked about; what they are known by, and the root of all."""
    lines = [
        {"name": image.name, "digest": str(image.root.digest), "media_type": image.root.media_type} for image in images
    ]
    return _post(admin, "/api/images/admit", {"images": lines, "public": public, "checked": checked})


def _bring(admin: Address, layout: Layout, images: Sequence[Brought], *, show: bool) -> Counted:
    """Send what the node lacks; what it has is verified here, as the rest is there."""
    sizes = {digest: length for image in images for digest, length in image.sizes.items()}
    lacking = set(_lacking(admin, sizes))
    with counting("reading", sum(sizes.values()), show=show) as reading:
        for digest, length in sizes.items():
            if digest not in lacking:
                _verify(layout, digest, length, reading)
    total = sum(sizes[digest] for digest in lacking)
    with counting("sending", total, show=show) as sending:
        for digest, length in sizes.items():
            if digest in lacking:
                body = _counted(_exactly(layout.blob(digest, length), digest, length), sending)
                send(admin, "PUT", f"/api/own/blob?digest={digest}", body, length)
    return sending


def _own_root(layout: Layout, root: str) -> CarLayout | None:
    """The layout, where it has another root than the node gives it: somebody else cut it."""
    return layout if isinstance(layout, CarLayout) and str(layout.root) != root else None


def _keep(admin: Address, layout: CarLayout, images: Sequence[Brought], *, public: bool) -> bool:
    """Have the node keep the layout by its own root as well, behind its images; False where that cannot be."""
    if not isinstance(layout.root, Cid):
        return False
    blobs = {digest: length for image in images for digest, length in image.sizes.items()}
    question = {"root": layout.root.raw, "public": public}
    lines: list[dict[str, object]] = []
    room = _MOST_BYTES
    try:
        for block in layout.foreign_blocks(blobs):
            room -= len(block.data) if isinstance(block, Whole) else _PART_BYTES
            if room < 0:
                _post(admin, "/api/images/blocks", {**question, "blocks": lines})
                lines, room = [], _MOST_BYTES
            lines.append(_line(block))
    except (InvalidError, MismatchError) as error:  # something else than the images, which are whole
        click.echo(plain(f"{layout.root}: not kept as it came: {error}"), err=True)
        return False
    _post(admin, "/api/images/blocks", {**question, "blocks": lines, "whole": True})
    return True


def _line(block: Whole | Part) -> dict[str, object]:
    if isinstance(block, Whole):
        return {"cid": block.cid.raw, "data": block.data}
    return {"cid": block.cid.raw, "within": str(block.digest), "offset": block.offset, "length": block.length}


def _lacking(admin: Address, sizes: Mapping[Digest, int]) -> Iterator[Digest]:
    digests = list(sizes)
    for at in range(0, len(digests), _AT_ONCE):
        some = {str(digest): sizes[digest] for digest in digests[at : at + _AT_ONCE]}
        yield from map(Digest.parse, _post(admin, "/api/images/lacking", {"sizes": some})["digests"])


def _post(admin: Address, target: str, question: Mapping[str, object]) -> Any:
    body = msgspec.json.encode(question)
    return send(admin, "POST", target, body, len(body))


def _verify(layout: Layout, digest: Digest, length: int, reading: Counted) -> None:
    hasher = digest.hasher()
    for piece in _counted(layout.blob(digest, length), reading):
        hasher.update(piece)
    if hasher.hexdigest() != digest.hex:
        raise MismatchError(f"{digest}: its bytes hash to something else")


def _exactly(pieces: Iterable[bytes], digest: Digest, length: int) -> Iterator[bytes]:
    """The pieces, which must be `length` bytes together."""
    left = length
    for piece in pieces:
        left -= len(piece)
        yield piece
    if left:
        raise InvalidError(f"{digest}: it has {length - left} bytes, not {length}")


def _counted(pieces: Iterable[bytes], counted: Counted) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        counted.more(len(piece))


def _show(source: Path, admitted: Any, images: Sequence[Brought], sent: Counted, *, as_json: bool) -> None:
    blobs = {digest for image in images for digest in image.sizes}
    names, root, own = admitted["names"], admitted["root"], admitted["own"]
    if as_json:
        listed = [{"name": name, "digest": str(image.root.digest)} for name, image in zip(names, images, strict=True)]
        rates = {"sent_bytes": sent.bytes, "seconds": sent.seconds, "rate": sent.rate}
        show_json({"file": str(source), "root": root, "kept": own, "images": listed, "blobs": len(blobs), **rates})
        return
    for name, image in zip(names, images, strict=True):
        click.echo(plain(f"{name}: {image.root.digest}"))
    rate = f", {size(sent.rate)}/s" if sent.bytes else ""
    click.echo(plain(f"{source}: {len(blobs)} blobs are here, {size(sent.bytes)} were not so already{rate}"))
    click.echo(f"root {root}{f', and as it came {own}' if own else ''}")
