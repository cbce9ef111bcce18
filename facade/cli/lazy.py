"""Groups of commands whose modules are loaded when they are asked for, so that `layermesh version` is quick."""

import importlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import click


class Lazy(click.Group):
    """The commands `names`, each in the module `prefix` + name, with `_` for `-`, or in the one that `modules` says."""

    names: Sequence[str] = ()
    prefix = "facade.cli."
    modules: Mapping[str, str] = MappingProxyType({})
    """For those that are called as no module can be."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.names:
            return None
        module = self.modules.get(cmd_name, cmd_name.replace("-", "_"))
        command: click.Command = importlib.import_module(self.prefix + module).command
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
