"""`layermesh ipfs`: a module `ipfs_NAME` for each of its commands."""

import click

from facade.cli.lazy import Lazy


class _Ipfs(Lazy):
    names = ("status", "add", "cat", "ls", "pin", "unpin", "config", "swarm-key")
    prefix = "facade.cli.ipfs_"


@click.group("ipfs", cls=_Ipfs, short_help="Work with the IPFS network of a node.")
def command() -> None:
    """Work with the IPFS network of a node."""
