"""`layermesh ipfs add`."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlencode

import click

from facade.cli.asking import send
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.progress import Counted, counting
from facade.cli.showing import plain, show_json, size
from node.digest import Algorithm
from node.errors import FullError, InvalidError, NotFoundError

_PIECE_BYTES: Final = 1024 * 1024


@click.command("add", short_help="Keep a file as a blob of this node.")
@config_option
@key_options("--admin")
@click.option("--public", is_flag=True, help="Let anybody have it, not the members of this cluster alone.")
@json_option
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True, dir_okay=False))
def command(config: Path | None, as_json: bool, public: bool, file: Path, **flags: object) -> None:
    """Keep FILE (`-`: standard input) as a blob of a running node, and print its digest and CID.

    The members of the cluster may have it; with --public anybody, and it is published to the node's IPFS network.
    """
    admin = load(flags, os.environ, config).admin.listen.address
    with _opened(file) as source:
        length = source.seek(0, os.SEEK_END)
        with counting("reading", length, show=not as_json) as reading:
            hasher = Algorithm.SHA256.hasher()
            for piece in _pieces(source, file, length, reading):
                hasher.update(piece)
        query = urlencode({"digest": f"sha256:{hasher.hexdigest()}", "public": "true" if public else "false"})
        with counting("sending", length, show=not as_json) as sending:
            answer = send(admin, "PUT", f"/api/ipfs/file?{query}", _pieces(source, file, length, sending), length)
    if as_json:
        show_json(answer)
        return
    click.echo(f"{answer['digest']}\n{answer['cid']}")
    click.echo(f"{size(answer['size'])}, {answer['visibility']}", err=True)
    if answer["note"]:
        click.echo(f"layermesh: {plain(answer['note'])}", err=True)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """The file, to be read twice; what can be read once is written to a temporary one first."""
    if str(file) == "-":
        with _spooled(sys.stdin.buffer) as source:
            yield source
        return
    try:
        opened = file.open("rb")
    except OSError as error:
        raise NotFoundError(f"{file}: {error.strerror}") from None
    with opened:
        if opened.seekable():
            yield opened
            return
        with _spooled(opened) as source:
            yield source


@contextmanager
def _spooled(source: IO[bytes]) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile() as spooled:
        try:
            while piece := source.read(_PIECE_BYTES):
                spooled.write(piece)
        except OSError as error:
            raise FullError(f"it cannot be kept in {tempfile.gettempdir()} meanwhile: {error.strerror}") from None
        yield spooled


def _pieces(source: IO[bytes], file: Path, length: int, counted: Counted) -> Iterator[bytes]:
    """The file's first `length` bytes.

    Raises:
        NotFoundError: when it cannot be read any more.
        InvalidError: when there are fewer.
    """
    left = length
    try:
        source.seek(0)
        while left and (piece := source.read(min(left, _PIECE_BYTES))):
            left -= len(piece)
            yield piece
            counted.more(len(piece))
    except OSError as error:
        raise NotFoundError(f"{file}: {error.strerror}") from None
    if left:
        raise InvalidError(f"{file}: it became shorter while it was read")
