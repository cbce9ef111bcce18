"""`layermesh version`."""

import sys
from importlib.metadata import PackageNotFoundError, version

import click

from facade.cli.options import json_option


def installed() -> str:
    """The version of the distribution."""
    try:
        return version("layermesh")
    except PackageNotFoundError:
        return "unknown"


@click.command("version", short_help="Show the version.")
@json_option
def command(as_json: bool) -> None:
    """Show the version of this program."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    if as_json:
        import json

        click.echo(json.dumps({"version": installed(), "python": python}, indent=2))
    else:
        click.echo(f"layermesh {installed()} (Python {python})")
