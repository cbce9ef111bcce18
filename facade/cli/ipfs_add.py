"""`layermesh ipfs add`."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlencode

import click

from facade.cli.asking import send
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.showing import plain, show_json, size
from node.digest import Algorithm, Digest
from node.errors import FullError, NotFoundError

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
        digest, length = _hash(source, file, show=not as_json)
        source.seek(0)
        query = urlencode({"digest": str(digest), "public": "true" if public else "false"})
        with _progress("sending", length, show=not as_json) as bar:
            answer = send(admin, "PUT", f"/api/ipfs/file?{query}", _Counted(source, file, bar), length)  # type: ignore[arg-type]  # read() is all it needs
    if as_json:
        show_json(answer)
        return
    click.echo(f"{answer['digest']}\n{answer['cid']}")
    click.echo(f"{size(answer['size'])}, {answer['visibility']}", err=True)
    if answer["note"]:
        click.echo(f"layermesh: {plain(answer['note'])}", err=True)


@contextmanager
def _opened(file: Path) -> Iterator[IO[bytes]]:
    """The file, to be read twice; standard input is written to a temporary one first."""
    if str(file) != "-":
        try:
            source = file.open("rb")
        except OSError as error:
            raise NotFoundError(f"{file}: {error.strerror}") from None
        with source:
            yield source
        return
    with tempfile.TemporaryFile() as spooled:
        try:
            while piece := sys.stdin.buffer.read(_PIECE_BYTES):
                spooled.write(piece)
        except OSError as error:
            raise FullError(f"standard input cannot be kept in {tempfile.gettempdir()}: {error.strerror}") from None
        spooled.seek(0)
        yield spooled


def _hash(source: IO[bytes], file: Path, *, show: bool) -> tuple[Digest, int]:
    hasher = Algorithm.SHA256.hasher()
    length = 0
    with _progress("reading", source.seek(0, os.SEEK_END), show=show) as bar:
        source.seek(0)
        counted = _Counted(source, file, bar)
        while piece := counted.read(_PIECE_BYTES):
            hasher.update(piece)
            length += len(piece)
    return Digest.parse(f"sha256:{hasher.hexdigest()}"), length


class _Counted:
    """A file whose progress is shown."""

    def __init__(self, source: IO[bytes], file: Path, bar: Any) -> None:
        self._source = source
        self._file = file
        self._bar = bar

    def read(self, count: int) -> bytes:
        """Raises: NotFoundError when it cannot be read any more."""
        try:
            piece = self._source.read(count)
        except OSError as error:
            raise NotFoundError(f"{self._file}: {error.strerror}") from None
        self._bar.update(len(piece))
        return piece


def _progress(label: str, length: int, *, show: bool) -> Any:
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=not (show and sys.stderr.isatty()))
