"""`layermesh ipfs pin`."""

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click

from facade.cli.asking import streamed
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.showing import show_json
from node.cid import Cid


@click.command("pin", short_help="Have the IPFS network keep a file.")
@config_option
@key_options("--admin")
@json_option
@click.argument("cid")
def command(config: Path | None, as_json: bool, cid: str, **flags: object) -> None:
    """Have the node's IPFS network keep a file, fetched from whoever has it there, until `layermesh ipfs unpin`.

    The embedded network keeps what is here, and fetches nothing by its CID.
    """
    named = Cid.parse(cid.removeprefix("/ipfs/"))  # refuses what is none before anybody is asked
    admin = load(flags, os.environ, config).admin.listen.address
    with _shown(f"fetching {named}", show=not as_json):
        for _ in streamed(admin, "POST", f"/api/ipfs/pin?{urlencode({'cid': str(named)})}"):
            pass
    if as_json:
        show_json({"cid": str(named)})
    else:
        click.echo(f"{named} is pinned")


def _shown(what: str, *, show: bool) -> AbstractContextManager[Any]:
    """That it goes on, where somebody looks; how far, the network does not say."""
    if not (show and sys.stderr.isatty()):
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(what)
