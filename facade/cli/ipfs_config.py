"""`layermesh ipfs config`."""

import os
from pathlib import Path
from typing import Final

import click

from facade.cli.config import load
from facade.cli.keys import KEYS
from facade.cli.kubo_settings import Role, kubo_settings
from facade.cli.options import config_option, json_option, key_options
from facade.cli.showing import show_json
from facade.cli.tables import Listen

_FLAG: Final = "--kubo-sidecar"


@click.command("config", short_help="Print the settings of a Kubo beside the node.")
@click.argument("role", type=click.Choice([role.value for role in Role]), metavar="network|fetch|private-swarm")
@config_option
@key_options(_FLAG)
@json_option
def command(role: str, config: Path | None, as_json: bool, **flags: object) -> None:
    """Print the settings of a Kubo daemon on this machine, as commands to be pasted while it is stopped.

    \b
    network        the node publishes public blobs to it
    private-swarm  the same, in a swarm with a key
    fetch          it fetches what the node and its peers have, by the node's Kubo sidecar

    With --json they are printed as they stand in Kubo's own configuration.
    """
    listen = load(flags, os.environ, config).facade.kubo_sidecar
    found = kubo_settings(Role(role), (listen or _default()).address)
    if as_json:
        show_json(found.nested())
        return
    for note in found.notes:
        click.echo(f"# {note}")
    for line in found.commands():
        click.echo(line)


def _default() -> Listen:
    """Where the sidecar listens once it is on."""
    return next(Listen.parse(key.on) for key in KEYS if key.flag == _FLAG and key.on)
