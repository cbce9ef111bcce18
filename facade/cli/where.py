"""`layermesh where`."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from facade.admin.asked import parse_asked
from facade.cli.asking import ask
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.showing import duration, plain, show_json, size
from node.manifest import INDEX_TYPES


@click.command("where", short_help="Show where an image or a blob is.")
@config_option
@key_options("--admin")
@json_option
@click.argument("asked", metavar="REF|DIGEST")
def command(config: Path | None, as_json: bool, asked: str, **flags: object) -> None:
    """Show where the blobs of an image, or one blob, are: on this node, and with which live peers.

    REF is an image as Docker writes it (alpine, ghcr.io/org/app:1.2; what was pushed here by the name it was pushed by,
    127.0.0.1:5050/team/app:1), DIGEST a sha256:... or sha512:...
    """
    parse_asked(asked)  # refuses what cannot be a name before anybody is asked
    answer = ask(load(flags, os.environ, config).admin.listen.address, "/api/where", {"ref": asked})
    if as_json:
        show_json(answer)
    else:
        _show(answer)


def _show(answer: dict[str, Any]) -> None:
    seen = ""
    if answer["seen_at"] is not None:
        by = f" by {answer['seen_by']}" if answer["seen_by"] else ""
        seen = f" (tag seen {duration(max(0.0, time.time() - answer['seen_at']))} ago{by})"
    if answer["asked"] != answer["digest"]:
        click.echo(plain(f"{answer['asked']} is {answer['digest']}{seen}"))
    click.echo(plain(f"all of it is with: {_holders(answer)}"))
    for blob in answer["blobs"]:
        click.echo()
        for line in _lines(blob):
            click.echo(plain(line))


def _lines(blob: dict[str, Any]) -> Iterator[str]:
    """One blob, its names on lines of their own, so that a narrow terminal leaves them whole."""
    role = "index" if blob["media_type"] in INDEX_TYPES else blob["role"] or "blob"
    facts = [role, size(blob["size"]), *([blob["visibility"]] if blob["visibility"] else [])]
    yield f"{', '.join(facts)}; with: {_holders(blob)}"
    yield f"  {blob['digest']}"
    if blob["cid"]:
        yield f"  {blob['cid']}"
    yield from (f"  {repository}" for repository in blob["repositories"])


def _holders(found: dict[str, Any]) -> str:
    here = ["this node"] if found["here"] else []
    return ", ".join([*here, *(peer["name"] for peer in found["peers"])]) or "nobody"
