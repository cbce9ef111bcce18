"""`layermesh ipfs status`."""

import os
from pathlib import Path
from typing import Any

import click

from facade.cli.asking import ask
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.showing import show_facts, show_json
from node.errors import UnreachableError


@click.command("status", short_help="Show how the IPFS network of a node is.")
@config_option
@key_options("--admin")
@json_option
def command(config: Path | None, as_json: bool, **flags: object) -> None:
    """Show which IPFS network a running node has, how that is, and what is in it.

    The exit status is 1 when the network cannot be used.
    """
    answer = ask(load(flags, os.environ, config).admin.listen.address, "/api/ipfs/status")
    if as_json:
        show_json(answer)
    else:
        _show(answer)
    if not answer["ipfs"]["usable"]:
        raise UnreachableError(answer["ipfs"]["state"])


def _show(answer: dict[str, Any]) -> None:
    network = answer["ipfs"]
    daemon = network["url"] is not None
    show_facts(
        [
            ("network", network["network"]),
            ("state", network["state"]),
            *([("rpc", network["url"]), ("version", network["version"]), ("peer id", network["peer_id"])] * daemon),
            *([("kubo's gateway", network["gateway"])] if network["gateway"] else []),
            ("gateway", f"{answer['gateway']} (this node)"),
            ("held here", f"{answer['held']} blobs"),
            ("published", _count(answer["published"])),
            *([("pinned by hand", _count(answer["by_hand"]))] * daemon),
            *(("warning", warning) for warning in answer["warnings"]),
        ]
    )


def _count(number: int | None) -> str:
    return "unknown" if number is None else f"{number} blobs"
