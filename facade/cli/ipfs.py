"""`layermesh ipfs`: a module `ipfs_NAME` for each of its commands."""

import click

from facade.cli.lazy import Lazy


class _Ipfs(Lazy):
    names = ("config",)
    prefix = "facade.cli.ipfs_"


@click.group("ipfs", cls=_Ipfs, short_help="IPFS: the settings of a Kubo beside the node.")
def command() -> None:
    """What has to do with IPFS."""
