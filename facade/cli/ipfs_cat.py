"""`layermesh ipfs cat`."""

import base64
import http.client
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlencode

import click

from facade.cli.asking import fetched
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.settings import Address
from node.errors import UnreachableError

_PIECE_BYTES: Final = 3 * 64 * 1024
"""A multiple of three, so that each piece is base64 by itself."""


@click.command("cat", short_help="Print a file of IPFS.")
@config_option
@key_options("--admin")
@click.option("--offset", type=click.IntRange(min=0), default=0, metavar="BYTES", help="Begin there.")
@click.option("--length", type=click.IntRange(min=0), metavar="BYTES", help="Print so many at most.")
@json_option
@click.argument("path", metavar="CID[/PATH]")
def command(config: Path | None, as_json: bool, offset: int, length: int | None, path: str, **flags: object) -> None:
    """Print a file: from this node where it is here, else from its IPFS network, else from its gateways.

    Every byte is verified against the CID. With --json the bytes come in base64. What ends too early ends with 1.
    """
    admin = load(flags, os.environ, config).admin.listen.address
    out = sys.stdout.buffer
    pieces = _pieces(admin, path, offset, length)
    if as_json:
        _encode(out, path, offset, pieces)
    else:
        for piece in pieces:
            out.write(piece)
    out.flush()


def _pieces(admin: Address, path: str, offset: int, length: int | None) -> Iterator[bytes]:
    """The bytes as they come; a cut is followed by one more question, for its answer says why."""
    at = offset
    with fetched(admin, _target(path, at, length)) as response:
        try:
            while piece := response.read(_PIECE_BYTES):
                at += len(piece)
                yield piece
            return
        except (OSError, http.client.HTTPException) as error:
            partial = error.partial if isinstance(error, http.client.IncompleteRead) else b""
    at += len(partial)
    yield partial
    with fetched(admin, _target(path, at, 1)):
        pass
    raise UnreachableError(f"{path}: the node broke off at byte {at}")


def _target(path: str, offset: int, length: int | None) -> str:
    part = {"offset": offset} | ({} if length is None else {"length": length})
    return f"/api/ipfs/file?{urlencode({'cid': path} | part)}"


def _encode(out: IO[bytes], path: str, offset: int, pieces: Iterable[bytes]) -> None:
    import msgspec

    first = next(iter(pieces), b"")
    count = len(first)
    out.write(b'{"path":' + msgspec.json.encode(path) + f',"offset":{offset},"base64":"'.encode())
    out.write(base64.b64encode(first))
    for piece in pieces:
        out.write(base64.b64encode(piece))
        count += len(piece)
    out.write(f'","bytes":{count}}}\n'.encode())
