"""`layermesh ipfs swarm-key`."""

import os
from pathlib import Path

import click

from cluster.swarm_key import swarm_key
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.showing import show_json
from facade.cli.wiring import read_secret
from node.errors import InvalidError


@click.command("swarm-key", short_help="Print the key of a private swarm for the members' Kubos.")
@config_option
@key_options("--secret-file")
@json_option
def command(config: Path | None, as_json: bool, **flags: object) -> None:
    """Print the `swarm.key` that belongs to the cluster secret, the same on each member.

    In the repository of each member's Kubo ($IPFS_PATH/swarm.key, for its owner alone), it makes of them a swarm that
    nobody else can talk to.
    """
    path = load(flags, os.environ, config).cluster.secret_file
    if path is None:
        raise InvalidError("a cluster secret is needed: name its file with --secret-file FILE")
    key = swarm_key(read_secret(path))
    if as_json:
        show_json({"swarm_key": key})
    else:
        click.echo(key, nl=False)
