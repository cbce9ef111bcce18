"""`layermesh backup`."""

import http.client
import io
import os
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

import click
import msgspec

from facade.cli.asking import ask, fetched
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.showing import show_json, size
from facade.settings import Address
from node.digest import Digest
from node.errors import FullError, MismatchError, NotFoundError, UnreachableError

MISSING: Final = "missing.json"
"""The blobs that nobody gave, as `Missing`; not there when none is missing."""
RECORDS: Final = "records.json"
"""The last part of a backup: one without it was cut short."""


class Missing(msgspec.Struct, frozen=True):
    """A blob or manifest that own repositories have, but that could not be had, and why."""

    digest: str
    reason: str


@click.command("backup", short_help="Write the own repositories to a file.")
@config_option
@key_options("--admin")
@json_option
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
def command(config: Path | None, as_json: bool, file: Path, **flags: object) -> None:
    """Write what was pushed to this cluster to FILE: tags, manifests and blobs, as a tar archive.

    What this node does not hold is fetched from the other members first. FILE appears when it is complete. What no
    member gives now is left out and named, in FILE as well; the exit status is 1 then.
    """
    admin = load(flags, os.environ, config).admin.listen.address
    records = list(_records(admin))
    sizes = {line["digest"]: int(line["size"]) for line in records if line["kind"] != "tag"}
    partial = file.with_name(f".{file.name}.partial")
    try:
        with partial.open("wb") as target:
            missing = _write(admin, target, records, sizes, show=not as_json)
            target.flush()
            os.fsync(target.fileno())
        partial.replace(file)
    except OSError as error:
        raise UnreachableError(f"{file}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    for each in missing:
        del sizes[each.digest]
    _show(file, len(records), sizes, missing, as_json=as_json)
    if missing:
        total = len(sizes) + len(missing)
        raise NotFoundError(f"{file}: {len(missing)} of {total} blobs are missing in it: nobody gives them now")


def _show(file: Path, records: int, sizes: Mapping[str, int], missing: list[Missing], *, as_json: bool) -> None:
    total = sum(sizes.values())
    if as_json:
        summary = {"file": str(file), "records": records, "blobs": len(sizes), "bytes": total}
        show_json({**summary, "missing": msgspec.to_builtins(missing)})
        return
    for each in missing:
        click.echo(f"missing: {each.digest}: {each.reason}")
    click.echo(f"{file}: {records} records, {len(sizes)} blobs, {size(total)}")


def _records(admin: Address) -> Iterator[dict[str, Any]]:
    after: int | None = 0
    while after is not None:
        page = ask(admin, "/api/own/records", {"after": str(after)})
        yield from page["records"]
        after = page["next"]


def _write(
    admin: Address, target: IO[bytes], records: list[dict[str, Any]], sizes: Mapping[str, int], *, show: bool
) -> list[Missing]:
    missing = []
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        progress = click.progressbar(sizes.items(), label="blobs", file=sys.stderr, hidden=not show)
        with progress as items:
            for text, length in items:
                begun = archive.offset
                try:
                    _add_blob(admin, archive, Digest.parse(text), length)
                except (NotFoundError, UnreachableError, MismatchError) as error:
                    ask(admin, "/livez")  # a node that is gone ends the backup
                    missing.append(Missing(text, str(error)))
                    target.truncate(target.seek(begun))
                    archive.offset = begun
        if missing:
            _add(archive, MISSING, msgspec.json.encode(missing))
        _add(archive, RECORDS, msgspec.json.encode(records))
    return missing


def _add_blob(admin: Address, archive: tarfile.TarFile, digest: Digest, length: int) -> None:
    """Raises: FullError when FILE takes no more, and as `fetched` and `_Checked`."""
    with fetched(admin, f"/api/own/blob?digest={digest}") as response:
        body = _Checked(response, digest)
        try:
            archive.addfile(_entry(f"blobs/{digest.algorithm}/{digest.hex}", length), body)  # type: ignore[arg-type]  # read() is all it needs
        except OSError as error:
            raise FullError(f"the backup cannot be written: {error.strerror}") from None
        body.finish()


class _Checked:
    """A blob's bytes as they are read, which must all come and hash to its digest."""

    def __init__(self, body: http.client.HTTPResponse, digest: Digest) -> None:
        self._body = body
        self._digest = digest
        self._hasher = digest.hasher()

    def read(self, count: int) -> bytes:
        """Raises: UnreachableError when fewer come."""
        try:
            data = self._body.read(count)
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self._digest}: the node broke off: {error}") from None
        if len(data) < count:
            raise UnreachableError(f"{self._digest}: the node broke off")
        self._hasher.update(data)
        return data

    def finish(self) -> None:
        """Raises: MismatchError."""
        if self._hasher.hexdigest() != self._digest.hex:
            raise MismatchError(f"{self._digest}: the node gave other bytes")


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    archive.addfile(_entry(name, len(data)), io.BytesIO(data))


def _entry(name: str, length: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = length, int(time.time())
    return entry
