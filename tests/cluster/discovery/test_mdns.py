"""Finding nodes by mDNS, on loopback only."""

import asyncio
import ipaddress
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from zeroconf import IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from cluster.discovery.contracts import Sighting
from cluster.discovery.mdns import SERVICE, Announcement, Mdns, machine_addresses, near
from tests.cluster.machine import until

LOOPBACK = ("127.0.0.1",)


@dataclass
class Seen:
    """What was sighted and warned of."""

    sightings: list[Sighting] = field(default_factory=list)
    warning: str | None = "nothing yet"

    def warn(self, text: str | None) -> None:
        self.warning = text

    def urls(self, *, gone: bool = False) -> set[str]:
        return {str(sighting.url) for sighting in self.sightings if sighting.gone is gone}


def announcement(port: int, host: str = "0.0.0.0") -> Announcement:
    return Announcement(secrets.token_hex(16), secrets.token_hex(16), "box", port, 1, host)


@asynccontextmanager
async def running(me: Announcement, interfaces: tuple[str, ...] = LOOPBACK) -> AsyncIterator[Seen]:
    seen = Seen()
    mdns = Mdns(me, interfaces, seen.sightings.append, seen.warn, 0.1)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(mdns.run())
        yield seen
        task.cancel()


async def test_nodes_see_each_other_not_themselves_and_say_goodbye() -> None:
    first, second = announcement(40_001), announcement(40_002)
    async with running(first) as seen:
        async with running(second) as other:
            await until(lambda: "http://127.0.0.1:40002" in seen.urls())
            await until(lambda: "http://127.0.0.1:40001" in other.urls())
            assert "http://127.0.0.1:40001" not in seen.urls()
            assert next(s.boot for s in seen.sightings if s.url.port == 40_002) == second.boot
            await until(lambda: other.warning is None)
        await until(lambda: "http://127.0.0.1:40002" in seen.urls(gone=True), 2.0)


async def test_an_announced_address_elsewhere_is_not_believed() -> None:
    async with running(announcement(40_003)) as seen:
        zeroconf = AsyncZeroconf(interfaces=list(LOOPBACK), ip_version=IPVersion.V4Only)
        try:
            junk: dict[object, object] = {b"\xff\xfe": b"\xff\xfe" * 50, "boot": None}
            for name, addresses, properties in [
                ("evil", ["192.0.2.1", "8.8.8.8"], {}),
                ("junk", ["127.0.0.1"], junk),
            ]:
                packed = [ipaddress.IPv4Address(address).packed for address in addresses]
                info = AsyncServiceInfo(
                    SERVICE, f"{name}-{secrets.token_hex(4)}.{SERVICE}", addresses=packed, port=40_004,
                    properties=properties, server=f"{name}.local.",
                )  # fmt: skip
                await (await zeroconf.async_register_service(info))
            await until(lambda: "http://127.0.0.1:40004" in seen.urls())
            assert not {url for url in seen.urls() if "192.0.2" in url or "8.8.8" in url}
        finally:
            await zeroconf.async_close()


async def test_an_interface_that_is_not_there_is_a_warning() -> None:
    async with running(announcement(40_005), ("192.0.2.77",)) as seen:
        await until(lambda: seen.warning is not None and "192.0.2.77" in seen.warning)


async def test_a_listener_on_another_address_is_not_announced() -> None:
    async with running(announcement(40_006, host="127.0.0.2")) as seen:
        await until(lambda: seen.warning is not None and "127.0.0.2 only" in seen.warning)


def test_addresses_are_near_when_an_interface_reaches_them() -> None:
    interfaces = [ipaddress.IPv4Interface("10.1.2.3/24"), ipaddress.IPv4Interface("127.0.0.1/8")]
    given = ["10.1.2.9", "10.1.3.9", "127.5.5.5", "8.8.8.8"]
    assert near(given, interfaces) == ["10.1.2.9", "127.5.5.5"]
    assert len(near([f"10.1.2.{n}" for n in range(50)], interfaces)) <= 4


def test_loopback_is_used_only_when_it_is_named() -> None:
    assert not any(address.is_loopback for address in machine_addresses(()))
    assert [str(address.ip) for address in machine_addresses(LOOPBACK)] == ["127.0.0.1"]
