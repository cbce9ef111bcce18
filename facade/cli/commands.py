"""The command `layermesh`: one module for each subcommand, loaded when it is asked for."""

import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from facade.cli.lazy import Lazy
from node.errors import InvalidError, LayermeshError

NAMES: Final = ("up", "status", "peers", "where", "export", "import", "ipfs", "backup", "restore", "version")
_FAILED: Final = 1
_USAGE: Final = 2
_INTERRUPTED: Final = 130
"""As shells say it: 128 and the number of SIGINT."""


class _Commands(Lazy):
    names = NAMES
    modules = {"import": "importing"}


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from facade.cli.version import installed

        click.echo(f"layermesh {installed()}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version and exit."
)
def layermesh() -> None:
    """Container images from this machine, its neighbours, IPFS, and only then the registry."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line; its exit status: 0, 1 (failed), 2 (usage) or 130. An error is one line on stderr."""
    try:
        status: Any = layermesh.main(list(arguments), prog_name="layermesh", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return _USAGE
    except click.ClickException as error:
        return _fail(error.format_message(), _USAGE)
    except InvalidError as error:
        return _fail(str(error), _USAGE)
    except LayermeshError as error:
        return _fail(str(error), _FAILED)
    except click.exceptions.Abort:
        return _fail("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads; the exit must not complain
        return _FAILED
    return status if isinstance(status, int) else 0


def _fail(message: str, status: int) -> int:
    line = " ".join(message.split())
    click.echo(f"layermesh: {line}", err=True)
    return status
