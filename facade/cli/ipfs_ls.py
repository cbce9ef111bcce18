"""`layermesh ipfs ls`."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from facade.cli.asking import ask, streamed
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.showing import plain, show_json, show_table, size
from facade.settings import Address


@click.command("ls", short_help="List what is here, or what a directory has.")
@config_option
@key_options("--admin")
@json_option
@click.argument("path", metavar="[CID[/PATH]]", required=False)
def command(config: Path | None, as_json: bool, path: str | None, **flags: object) -> None:
    """List the files that a running node has, or that its IPFS network keeps for it; with a CID, what a directory has.

    PINNED says whether the network keeps a file because the node publishes it, or because it was pinned by hand.
    """
    admin = load(flags, os.environ, config).admin.listen.address
    if path is None:
        _list(admin, as_json=as_json)
        return
    answer = ask(admin, f"/api/ipfs/directory?{urlencode({'cid': path})}")
    if as_json:
        show_json(answer)
    else:
        rows = ((entry["name"], entry["cid"], size(entry["size"])) for entry in answer["entries"])
        show_table(("NAME", "CID", "SIZE"), rows)


def _list(admin: Address, *, as_json: bool) -> None:
    files: list[dict[str, Any]] = []
    for line in streamed(admin, "GET", "/api/ipfs/files"):
        if note := line.get("note"):
            click.echo(f"layermesh: {plain(note)}", err=True)
        if line.get("file"):
            files.append(line["file"])
    if as_json:
        show_json({"files": files})
        return
    rows = ((each["cid"], size(each["size"]), each["visibility"], each["pinned"], each["digest"]) for each in files)
    show_table(("CID", "SIZE", "VISIBILITY", "PINNED", "DIGEST"), rows)
