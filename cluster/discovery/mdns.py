"""Finding nodes on the local network by mDNS (RFC 6762, 6763), over IPv4. The only importer of zeroconf.

Anyone on the network can announce anything. So an announced address is believed only when it lies in the network of an
interface that is browsed: an announcement cannot make this node dial somewhere else.
"""

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import ifaddr
from yarl import URL
from zeroconf import Error, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from cluster.discovery.contracts import Sighted, Sighting
from cluster.membership import Origin

SERVICE: Final = "_layermesh._tcp.local."
MAX_SERVICES: Final = 1024
MAX_ADDRESSES: Final = 4
RESOLVE_MS: Final = 3000
CLOSE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Announcement:
    """What this node says of itself. `host`: the address that the mesh listener is bound to, when not to all.

    `tls`: it is reached by https.
    """

    id: str
    boot: str
    name: str
    port: int
    version: int
    host: str = "0.0.0.0"
    tls: bool = False

    @property
    def properties(self) -> dict[str, str]:
        """The TXT record."""
        told = {"id": self.id, "boot": self.boot, "name": self.name, "v": str(self.version)}
        return {**told, "tls": "1"} if self.tls else told

    @property
    def instance(self) -> str:
        """The service instance: two nodes with the same name, or copied ids, must not be taken for one."""
        return f"{self.id[:12]}-{self.boot[:8]}.{SERVICE}"


@dataclass(slots=True)
class Mdns:
    """Announces this node and browses for others, until cancelled; starts over when the interfaces change."""

    me: Announcement
    interfaces: tuple[str, ...]
    sighted: Sighted
    warn: Callable[[str | None], None]
    retry_s: float
    _known: dict[str, tuple[Sighting, ...]] = field(default_factory=dict)
    _changed: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(MAX_SERVICES))
    _pending: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Announce and browse until cancelled; says goodbye then."""
        while True:
            addresses = machine_addresses(self.interfaces)
            missing = set(self.interfaces) - {str(address.ip) for address in addresses}
            if missing:
                self.warn(f"mDNS: this machine has no address {', '.join(sorted(missing))}")
            elif not addresses:
                self.warn("mDNS: this machine has no network; other nodes are not found by it")
            else:
                await self._serve(addresses)
            await asyncio.sleep(self.retry_s)

    async def _serve(self, addresses: Sequence[ipaddress.IPv4Interface]) -> None:
        try:
            zeroconf = AsyncZeroconf(interfaces=[str(a.ip) for a in addresses], ip_version=IPVersion.V4Only)
        except OSError as error:
            self.warn(f"mDNS: no multicast on {', '.join(str(a.ip) for a in addresses)}: {error.strerror or error}")
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._resolve(zeroconf.zeroconf, addresses))
                browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[self._noticed])
                try:
                    await self._announce(zeroconf, addresses)
                    await self._changes_of(addresses)
                finally:
                    await browser.async_cancel()
        except* _Changed:
            pass  # begin anew with the interfaces there are now
        except* (OSError, Error, TimeoutError) as errors:
            self.warn(f"mDNS: {'; '.join(str(e) or type(e).__name__ for e in errors.exceptions)}")
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await zeroconf.async_close()

    async def _announce(self, zeroconf: AsyncZeroconf, addresses: Sequence[ipaddress.IPv4Interface]) -> None:
        own = [a.ip.packed for a in addresses if self.me.host in ("0.0.0.0", "", str(a.ip))]
        info = AsyncServiceInfo(
            SERVICE,
            self.me.instance,
            addresses=own,
            port=self.me.port,
            properties=self.me.properties,
            server=f"{self.me.id[:12]}-{self.me.boot[:8]}.local.",
        )
        if own:
            await (await zeroconf.async_register_service(info))
        self.warn(None if own else f"mDNS: not announced: the mesh listens on {self.me.host} only")

    async def _changes_of(self, addresses: Sequence[ipaddress.IPv4Interface]) -> None:
        while True:
            await asyncio.sleep(self.retry_s)
            if machine_addresses(self.interfaces) != addresses:
                raise _Changed

    def _noticed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if name.lower() == self.me.instance.lower():
            return
        if state_change is ServiceStateChange.Removed:
            for sighting in self._known.pop(name, ()):
                self.sighted(Sighting(sighting.url, Origin.MDNS, gone=True))
        elif name not in self._pending and not self._changed.full():
            self._pending.add(name)
            self._changed.put_nowait(name)

    async def _resolve(self, zeroconf: Zeroconf, addresses: Sequence[ipaddress.IPv4Interface]) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(self._resolve_some(zeroconf, addresses))

    async def _resolve_some(self, zeroconf: Zeroconf, addresses: Sequence[ipaddress.IPv4Interface]) -> None:
        while True:
            name = await self._changed.get()
            try:
                info = AsyncServiceInfo(SERVICE, name)
                if await info.async_request(zeroconf, RESOLVE_MS):
                    self._resolved(name, info, addresses)
            except (Error, ValueError, OSError):
                continue  # an announcement that cannot be read names nobody
            finally:
                self._pending.discard(name)

    def _resolved(self, name: str, info: AsyncServiceInfo, addresses: Sequence[ipaddress.IPv4Interface]) -> None:
        boot = info.decoded_properties.get("boot")
        found = near([str(address) for address in info.parsed_addresses(IPVersion.V4Only)], addresses)
        if not info.port or (name not in self._known and len(self._known) >= MAX_SERVICES):
            return
        scheme = "https" if info.decoded_properties.get("tls") == "1" else "http"
        urls = [URL.build(scheme=scheme, host=address, port=info.port) for address in found]
        now = tuple(Sighting(url, Origin.MDNS, boot) for url in urls)
        for sighting in self._known.get(name, ()):
            if sighting.url not in urls:
                self.sighted(Sighting(sighting.url, Origin.MDNS, gone=True))
        self._known[name] = now
        for sighting in now:
            self.sighted(sighting)


class _Changed(Exception):
    """The interfaces are not what they were."""


def machine_addresses(wanted: Sequence[str]) -> list[ipaddress.IPv4Interface]:
    """This machine's IPv4 addresses with their networks: the wanted ones, or when none are named all but loopback."""
    found = []
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            if isinstance(ip.ip, str):
                address = ipaddress.IPv4Interface(f"{ip.ip}/{ip.network_prefix}")
                if address.ip.compressed in wanted or (not wanted and not address.is_loopback):
                    found.append(address)
    return sorted(set(found))


def near(addresses: Sequence[str], interfaces: Sequence[ipaddress.IPv4Interface]) -> list[str]:
    """Those of the announced addresses that lie in the network of one of our interfaces, at most a few."""
    parsed = [ipaddress.IPv4Address(address) for address in addresses]
    return [str(a) for a in parsed if any(a in interface.network for interface in interfaces)][:MAX_ADDRESSES]
