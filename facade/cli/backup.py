"""`layermesh backup`."""

import io
import os
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from facade.cli.asking import ask, fetched
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.showing import show_json, size
from facade.settings import Address
from node.digest import Digest
from node.errors import MismatchError, UnreachableError

RECORDS: Final = "records.json"
"""The last part of a backup: one without it was cut short."""


@click.command("backup", short_help="Write the own repositories to a file.")
@config_option
@key_options("--admin")
@json_option
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
def command(config: Path | None, as_json: bool, file: Path, **flags: object) -> None:
    """Write what was pushed to this cluster to FILE: tags, manifests and blobs, as a tar archive.

    What this node does not hold is fetched from the other members first. FILE appears when it is complete.
    """
    admin = load(flags, os.environ, config).admin.listen.address
    records = list(_records(admin))
    sizes = {line["digest"]: int(line["size"]) for line in records if line["kind"] != "tag"}
    partial = file.with_name(f".{file.name}.partial")
    try:
        with partial.open("wb") as target:
            _write(admin, target, records, sizes, show=not as_json)
            target.flush()
            os.fsync(target.fileno())
        partial.replace(file)
    except OSError as error:
        raise UnreachableError(f"{file}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)
    summary = {"file": str(file), "records": len(records), "blobs": len(sizes), "bytes": sum(sizes.values())}
    if as_json:
        show_json(summary)
    else:
        click.echo(f"{file}: {len(records)} records, {len(sizes)} blobs, {size(sum(sizes.values()))}")


def _records(admin: Address) -> Iterator[dict[str, Any]]:
    after: int | None = 0
    while after is not None:
        page = ask(admin, "/api/own/records", {"after": str(after)})
        yield from page["records"]
        after = page["next"]


def _write(admin: Address, target: Any, records: list[dict[str, Any]], sizes: dict[str, int], *, show: bool) -> None:
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        progress = click.progressbar(sizes.items(), label="blobs", file=sys.stderr, hidden=not show)
        with progress as items:
            for text, length in items:
                _add_blob(admin, archive, Digest.parse(text), length)
        data = msgspec.json.encode(records)
        archive.addfile(_entry(RECORDS, len(data)), io.BytesIO(data))


def _add_blob(admin: Address, archive: tarfile.TarFile, digest: Digest, length: int) -> None:
    with fetched(admin, f"/api/own/blob?digest={digest}") as response:
        body = _Checked(response, digest)
        try:
            archive.addfile(_entry(f"blobs/{digest.algorithm}/{digest.hex}", length), body)  # type: ignore[arg-type]  # read() is all it needs
        except OSError as error:
            raise UnreachableError(f"{digest}: {error}") from None
        body.finish()


class _Checked:
    """A blob's bytes as they are read, which must hash to its digest."""

    def __init__(self, body: Any, digest: Digest) -> None:
        self._body = body
        self._digest = digest
        self._hasher = digest.hasher()

    def read(self, count: int) -> bytes:
        data: bytes = self._body.read(count)
        self._hasher.update(data)
        return data

    def finish(self) -> None:
        """Raises: MismatchError."""
        if self._hasher.hexdigest() != self._digest.hex:
            raise MismatchError(f"{self._digest}: the node gave other bytes")


def _entry(name: str, length: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = length, int(time.time())
    return entry
