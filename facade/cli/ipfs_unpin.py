"""`layermesh ipfs unpin`."""

import os
from pathlib import Path
from urllib.parse import urlencode

import click

from facade.cli.asking import streamed
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.showing import show_json
from node.cid import Cid


@click.command("unpin", short_help="End what `pin` began.")
@config_option
@key_options("--admin")
@json_option
@click.argument("cid")
def command(config: Path | None, as_json: bool, cid: str, **flags: object) -> None:
    """End what `layermesh ipfs pin` began. What others pinned is theirs, and stays."""
    named = Cid.parse(cid.removeprefix("/ipfs/"))  # refuses what is none before anybody is asked
    admin = load(flags, os.environ, config).admin.listen.address
    for _ in streamed(admin, "DELETE", f"/api/ipfs/pin?{urlencode({'cid': str(named)})}"):
        pass
    if as_json:
        show_json({"cid": str(named)})
    else:
        click.echo(f"{named} is not pinned by hand")
