"""`layermesh peers`."""

import os
import time
from pathlib import Path
from typing import Any

import click

from facade.cli.asking import ask
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.showing import duration, show_json, show_table, size


@click.command("peers", short_help="Show the other nodes a running node knows.")
@config_option
@key_options("--admin")
@json_option
def command(config: Path | None, as_json: bool, **flags: object) -> None:
    """Show the other nodes that a running node knows, and how they are."""
    answer = ask(load(flags, os.environ, config).admin.listen.address, "/api/peers")
    if as_json:
        show_json(answer)
    elif not answer["peers"]:
        click.echo("no peers yet: nodes on the same network find each other; others need --join URL")
    else:
        columns = ("NAME", "URL", "STATE", "MEMBER", "SEEN", "BLOBS", "RECEIVED", "SENT", "NOTE")
        show_table(columns, (_row(peer) for peer in answer["peers"]))


def _row(peer: dict[str, Any]) -> tuple[object, ...]:
    seen = peer["last_seen"]
    return (
        peer["name"] or "-",
        peer["url"],
        peer["state"],
        peer["member"],
        "never" if seen is None else f"{duration(max(0.0, time.time() - seen))} ago",
        peer["blobs"],
        size(peer["received_bytes"]),
        size(peer["sent_bytes"]),
        "; ".join(text for text in (peer["set_aside"], peer["note"]) if text) or "-",
    )
