"""`layermesh where`."""

import os
import time
from pathlib import Path
from typing import Any

import click

from facade.cli.asking import ask
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.showing import duration, plain, show_json, show_table, size
from node.digest import Digest
from node.reference import Reference


@click.command("where", short_help="Show where an image or a blob is.")
@config_option
@key_options("--admin")
@json_option
@click.argument("asked", metavar="REF|DIGEST")
def command(config: Path | None, as_json: bool, asked: str, **flags: object) -> None:
    """Show where the blobs of an image, or one blob, are: on this node, and with which live peers.

    REF is an image as Docker writes it (alpine, ghcr.io/org/app:1.2), DIGEST a sha256:... or sha512:...
    """
    _check(asked)
    answer = ask(load(flags, os.environ, config).admin.listen.address, "/api/where", {"ref": asked})
    if as_json:
        show_json(answer)
    else:
        _show(answer)


def _check(asked: str) -> None:
    """Refuse what cannot be a name before anybody is asked."""
    if asked.startswith(("sha256:", "sha512:")):
        Digest.parse(asked)
    else:
        Reference.parse(asked)


def _show(answer: dict[str, Any]) -> None:
    seen = ""
    if answer["seen_at"] is not None:
        by = f" by {answer['seen_by']}" if answer["seen_by"] else ""
        seen = f" (tag seen {duration(max(0.0, time.time() - answer['seen_at']))} ago{by})"
    click.echo(plain(f"{answer['asked']} is {answer['digest']}{seen}"))
    holders = ", ".join(peer["name"] for peer in answer["peers"]) or "no peer"
    click.echo(plain(f"all of it is with: {'this node, ' if answer['here'] else ''}{holders}"))
    columns = ("ROLE", "DIGEST", "SIZE", "HERE", "VISIBILITY", "PEERS", "CID", "REPOSITORIES")
    show_table(columns, (_row(blob) for blob in answer["blobs"]))


def _row(blob: dict[str, Any]) -> tuple[object, ...]:
    return (
        blob["role"],
        blob["digest"],
        size(blob["size"]),
        blob["here"],
        blob["visibility"],
        ", ".join(peer["name"] for peer in blob["peers"]) or "-",
        blob["cid"],
        ", ".join(blob["repositories"]) or "-",
    )
