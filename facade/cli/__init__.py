"""The command line: one file per command, and the one place that wires everything."""

import sys


def main() -> None:
    """The entry point of the command `layermesh`."""
    from facade.cli.commands import run

    sys.exit(run(sys.argv[1:]))
