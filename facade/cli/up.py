"""`layermesh up`."""

import asyncio
import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import click
import structlog

from facade.cli import logs
from facade.cli.config import load
from facade.cli.guarding import exposed_passwords
from facade.cli.memory import keep_freed, spare_the_collector
from facade.cli.options import config_option, key_options
from facade.cli.pulling import Doors, commands, reachable
from facade.cli.sockets import Listener, bound
from facade.cli.wiring import Wiring, wire
from facade.settings import Address
from node.errors import LayermeshError

if TYPE_CHECKING:
    from facade.admin.status import Running

log = structlog.get_logger(__name__)
THREADS = 32
"""Bodies are sent by threads, which slow clients hold for moments; the same threads look up names and hash leaves."""
STOPPED_WITHIN_S = 12.0
"""Answers get nine seconds and the parts one; beyond this something hangs."""


@click.command("up", short_help="Run a node.")
@config_option
@key_options()
def command(config: Path | None, **flags: object) -> None:
    """Run a node until SIGTERM or Ctrl-C: it serves pulls, and shares what it holds with the nodes around it.

    What is not given here comes from the environment variable in brackets, then from FILE, then from the default.
    Port 0 lets the system choose.
    """
    configuration = load(flags, os.environ, config)
    logs.configure(configuration.node.log, configuration.node.log_level)
    wiring = wire(configuration, os.environ, root=os.geteuid() == 0)
    if exposed_passwords(wiring.facade, wiring.guarding):
        log.warning("users' passwords cross the network unencrypted: set [facade] tls_cert and tls_key")
    _allow_many_files()
    keep_freed()
    with bound(wiring.addresses()) as listeners:
        asyncio.run(_run(wiring, listeners))


async def _run(wiring: Wiring, listeners: dict[str, Listener]) -> None:
    """Serve until the first SIGTERM or SIGINT; the second one cuts what is still being sent, the third ends all."""
    from facade.cli.node import open_node  # half a second of loading; mistakes in the settings are said before

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="asyncio"))
    stop, cut = asyncio.Event(), asyncio.Event()
    _on_signals(stop, cut)
    try:
        async with open_node(wiring, listeners, cut) as node:
            click.echo(announcement(node, wiring.guarding.doors))
            spare_the_collector()
            await stop.wait()
            log.info("stopping; what is being sent may finish, and a second signal cuts it")
            asyncio.get_running_loop().call_later(STOPPED_WITHIN_S, _give_up)
    except BaseExceptionGroup as group:
        raise _told(group) from group
    log.info("stopped")


def _on_signals(stop: asyncio.Event, cut: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def signalled() -> None:
        if not stop.is_set():
            stop.set()
        else:
            cut.set()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)


def _give_up() -> None:
    """The store survives an end at any moment; an operator's patience does not survive a node that never ends."""
    log.error("not stopped in time: ending at once")
    os._exit(1)


def announcement(node: "Running", doors: Doors) -> str:
    """What is printed once the node serves: its addresses, and how to pull through it."""
    listeners = node.listeners
    lines = [
        f"layermesh {node.version} is ready: {node.name}, data in {node.data}",
        *(f"  {name:<14} {_shown(name, address, doors)}" for name, address in listeners.items()),
        f"  others join    --join {_join(listeners['mesh'])} (where mDNS does not find this node)",
        "",
    ]
    return "\n".join(lines) + "\n" + commands(listeners["facade"], listeners.get("docker-mirror"), doors)


def _shown(name: str, address: Address, doors: Doors) -> str:
    if name == "mesh":
        return f"{address}"
    plain = name in ("admin", "kubo-sidecar")
    return f"{'http' if plain else doors.scheme}://{reachable(address)}"


def _join(mesh: Address) -> str:
    """What other nodes are told; which name or address of this machine they reach is theirs to know."""
    everywhere = reachable(mesh) != mesh
    return f"http://HOST:{mesh.port}" if everywhere else f"http://{mesh}"


def _told(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that an operator can do something about, if it is the only kind in the group."""
    told, rest = group.split(LayermeshError)
    if told is None or rest is not None:
        return group
    first: BaseException = told
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


def _allow_many_files() -> None:
    """Raise the limit on open files as far as the system lets us: each client and each blob needs one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
