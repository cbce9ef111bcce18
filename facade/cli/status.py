"""`layermesh status`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from facade.cli.asking import ask
from facade.cli.config import load
from facade.cli.options import config_option, json_option, key_options
from facade.cli.showing import duration, show_facts, show_json, show_table, size


@click.command("status", short_help="Show a running node at a glance.")
@config_option
@key_options("--admin")
@json_option
def command(config: Path | None, as_json: bool, **flags: object) -> None:
    """Show a running node at a glance: addresses, what it holds, its peers and upstreams, and what is wrong."""
    answer = ask(load(flags, os.environ, config).admin.listen.address, "/api/status")
    if as_json:
        show_json(answer)
    else:
        _show(answer)


def _show(answer: dict[str, Any]) -> None:
    peers = ", ".join(f"{count} {state}" for state, count in answer["peers"].items() if count) or "none"
    served = ", ".join(f"{size(count)} {source}" for source, count in answer["served_bytes"].items() if count)
    show_facts(
        [
            ("node", f"{answer['name']} ({answer['id']})"),
            ("state", "ready" if answer["ready"] else answer["reason"]),
            ("up for", duration(answer["uptime_s"])),
            *((name, address) for name, address in answer["listeners"].items()),
            ("data", answer["data"]),
            (
                "holds",
                f"{answer['blobs']} blobs, {size(answer['store_bytes'])}; {size(answer['disk_free_bytes'])} free",
            ),
            ("served", served or "nothing yet"),
            ("peers", peers),
            ("ipfs", _ipfs(answer["ipfs"])),
            *(("gateway", f"{each['url']}, {size(each['received_bytes'])} from it") for each in answer["gateways"]),
            *(("warning", warning) for warning in answer["warnings"]),
        ]
    )
    click.echo()
    show_table(
        ("UPSTREAM", "ENDPOINT", "PUBLIC", "ACCESS", "BREAKER"),
        (row for upstream in answer["upstreams"] for row in _rows(upstream)),
    )


def _ipfs(ipfs: dict[str, Any]) -> str:
    if ipfs["url"] is None:
        return str(ipfs["network"])
    about = f"{ipfs['network']} {ipfs['version'] or ''}".strip()
    return f"{about} at {ipfs['url']}: {ipfs['state']}, {ipfs['offered']} blobs published"


def _rows(upstream: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    for endpoint in upstream["endpoints"]:
        named = (upstream["namespace"], endpoint["url"])
        yield (*named, upstream["public"], upstream["access"], endpoint["breaker"])
