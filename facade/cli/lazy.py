"""Groups of commands whose modules are loaded when they are asked for, so that `layermesh version` is quick."""

import importlib
from collections.abc import Sequence

import click


class Lazy(click.Group):
    """The commands `names`, each in the module `prefix` + name, with `_` for `-`."""

    names: Sequence[str] = ()
    prefix = "facade.cli."

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.names:
            return None
        command: click.Command = importlib.import_module(self.prefix + cmd_name.replace("-", "_")).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if not name.startswith("-") and name not in self.names:
            ctx.fail(f"no such command {name!r}{self._nearest(name)}")
        return super().resolve_command(ctx, args)

    def _nearest(self, name: str) -> str:
        import difflib

        near = difflib.get_close_matches(name, self.names, n=1)
        return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(self.names)}"
