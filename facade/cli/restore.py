"""`layermesh restore`."""

import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import click
import msgspec

from facade.cli.asking import send
from facade.cli.backup import MISSING, RECORDS, Missing
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.showing import show_json
from facade.settings import Address
from node.digest import Digest
from node.errors import InvalidError

_AT_ONCE: Final = 1000
_ORDER: Final = ("blob", "manifest", "tag")


@click.command("restore", short_help="Read own repositories back from a file.")
@config_option
@key_options("--admin")
@json_option
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
def command(config: Path | None, as_json: bool, file: Path, **flags: object) -> None:
    """Bring back what `layermesh backup` wrote to FILE, as if it were pushed to this node now.

    Tags that mean something else by now mean again what the backup says; what it does not name stays as it is. A blob
    that is missing in the backup can be pushed again, and the manifests that name it are there again then.
    """
    admin = load(flags, os.environ, config).admin.listen.address
    try:
        with file.open("rb") as source, tarfile.open(fileobj=source, mode="r:") as archive:
            members = {member.name: member for member in archive if member.isreg()}
            if RECORDS not in members:
                raise InvalidError(f"{file}: it is not complete: {RECORDS} is missing")
            restored, blobs, missing = _restore(admin, archive, members, show=not as_json)
    except (OSError, tarfile.TarError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidError(f"{file}: no backup: {reason}") from None
    if as_json:
        show_json({"file": str(file), "restored": restored, "blobs": blobs, "missing": sorted(missing)})
    else:
        for digest in sorted(missing):
            click.echo(f"missing: {digest}")
        click.echo(f"{file}: {blobs} blobs are here, {restored} records were not so already")


def _restore(
    admin: Address, archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], *, show: bool
) -> tuple[int, int, set[str]]:
    try:
        missing = _missing(archive, members)
        records: list[dict[str, Any]] = msgspec.json.decode(_open(archive, members[RECORDS]).read())
        records = [line for line in records if line["digest"] not in missing]
        records.sort(key=lambda line: _ORDER.index(line["kind"]))
        digests = {Digest.parse(line["digest"]) for line in records if line["kind"] != "tag"}
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidError(f"{RECORDS}: {error}") from None
    blobs = [(digest, members.get(f"blobs/{digest.algorithm}/{digest.hex}")) for digest in sorted(digests, key=str)]
    progress = click.progressbar(blobs, label="blobs", file=sys.stderr, hidden=not show)
    with progress as items:
        for digest, member in items:
            if member is None:
                raise InvalidError(f"{digest}: it is named, but not in the backup")
            send(admin, "PUT", f"/api/own/blob?digest={digest}", _open(archive, member), member.size)
    restored = 0
    for page in _pages(records):
        body = msgspec.json.encode({"records": page})
        restored += send(admin, "POST", "/api/own/records", body, len(body))["restored"]
    return restored, len(blobs), missing


def _missing(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> set[str]:
    """The digests of what nobody gave when the backup was written."""
    if MISSING not in members:
        return set()
    named = msgspec.json.decode(_open(archive, members[MISSING]).read(), type=list[Missing])
    return {each.digest for each in named}


def _open(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    found = archive.extractfile(member)
    assert found is not None, "only regular files are asked for"
    return found


def _pages(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for at in range(0, len(records), _AT_ONCE):
        yield records[at : at + _AT_ONCE]
