"""Greeting addresses and probing peers: the loop that does what the membership asks for."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from yarl import URL

from cluster.config import Timings
from cluster.membership import Contact, Identity, Membership, Origin, Task
from cluster.messages import Hello
from cluster.tls import Pin
from cluster.wire import CertificateError, MeshClient, RefusedError, UnlikeError
from node.errors import DeniedError, InvalidError, LayermeshError, UnreachableError
from node.ipfs.kubo.multiaddrs import SwarmPeer

STRANGERS_AT_ONCE: Final = 32
LATE_S: Final = 0.5
"""An answer that is missed while this process itself was so late proves nothing."""


class OtherwiseError(DeniedError):
    """A node is there, but speaks TLS where this one does not, or the other way round."""


@dataclass(frozen=True, slots=True)
class Greeter:
    """Says hello. `hello` is who we are to members and to others; with `secret` membership is asked for and shown; with
    `tls` over TLS only.
    """

    client: MeshClient
    hello: Callable[[bool], Hello]
    secret: bool
    timings: Timings
    tls: bool = False

    async def greet(self, url: URL, *, tell: bool = True) -> Identity:
        """Find out who is at an address, tell it who we are, and prove to each other what can be proved.

        `tell` says whether a node that we cannot speak with is told of us, so that it can say so as well.

        Raises:
            UnreachableError: when nobody answers in time.
            CertificateError: when it shows another certificate than it says: somebody stands between us and it.
            OtherwiseError: when only one of us speaks TLS.
            DeniedError: when it does not want to hear of us.
            InvalidError: when it speaks, but not our protocol.
        """
        mine, timeout_s = self.hello(False), self.timings.greet_timeout_s
        pin = Pin() if self.tls and url.scheme == "https" else None
        try:
            who = await self.client.who(url, to=None, timeout_s=timeout_s, pin=pin)
        except UnlikeError as error:
            raise await self._look_otherwise(url, mine, tell) or error from None
        if who.id == mine.id:
            return _identity(who, member=False, note=None, pin=pin)
        if self.tls and (pin is None or who.tls is None):
            if tell:
                await self._introduce(url, mine, pin)
            raise self._otherwise(who)
        _check(who, pin)
        if not (self.secret and who.secured):
            _same(who.id, await self._introduce(url, mine, pin))
            return _identity(who, member=False, note=_difference(who, self.secret), pin=pin)
        try:
            proven = await self.client.greet(url, self.hello(True), to=who.id, timeout_s=timeout_s, pin=pin)
        except DeniedError as error:
            return _identity(who, member=False, note=f"not proved to be a member: {error}", pin=pin)
        _same(who.id, proven)
        _check(proven, pin)
        return _identity(proven, member=True, note=None, pin=pin)

    async def ask(self, contact: Contact) -> Identity:
        """Ask a peer whether it is still there, and the one it was. Raises as `greet` does."""
        known = contact.identity
        member = known is not None and known.member
        to = known.id if known is not None and member else None
        pin = known.pin if known is not None else None
        who = await self.client.who(contact.url, to=to, timeout_s=self.timings.probe_timeout_s, pin=pin)
        _check(who, pin)
        return _identity(who, member=member, note=None, pin=pin)

    async def _introduce(self, url: URL, mine: Hello, pin: Pin | None) -> Hello:
        return await self.client.greet(url, mine, to=None, timeout_s=self.timings.greet_timeout_s, pin=pin)

    async def _look_otherwise(self, url: URL, mine: Hello, tell: bool) -> OtherwiseError | None:
        """Who does not answer as we speak may answer the other way."""
        other = URL.build(scheme="http" if self.tls else "https", host=url.host or "", port=url.port)
        pin, timeout_s = None if self.tls else Pin(), self.timings.greet_timeout_s
        try:
            if tell:
                who = await self._introduce(other, mine, pin)
            else:
                who = await self.client.who(other, to=None, timeout_s=timeout_s, pin=pin)
        except LayermeshError:
            return None
        return None if (who.tls is not None) == self.tls else self._otherwise(who)

    def _otherwise(self, who: Hello) -> OtherwiseError:
        theirs, mine = ("no TLS", "does") if self.tls else ("TLS", "does not")
        return OtherwiseError(
            f"{who.name} speaks {theirs}, this node {mine}: set [cluster] tls on all nodes or on none"
        )


class Rounds:
    """Does what is due, one task a contact; what fails with one concerns nobody else."""

    def __init__(
        self,
        membership: Membership,
        greeter: Greeter,
        changed: Callable[[], None],
        lied: Callable[[URL, str], None],
        failed: Callable[[URL, str], None],
        crashed: Callable[[URL, Exception], None],
    ) -> None:
        self._membership = membership
        self._greeter = greeter
        self._changed = changed
        self._lied = lied
        self._failed = failed
        self._crashed = crashed
        self._wake = asyncio.Event()
        self._strangers = asyncio.Semaphore(STRANGERS_AT_ONCE)

    def wake(self) -> None:
        """Something may be due now."""
        self._wake.set()

    async def run(self) -> None:
        """Go on until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                for task in self._membership.tasks(loop.time()):
                    group.create_task(self._do(task))
                now = loop.time()
                try:
                    async with asyncio.timeout(max(0.02, self._membership.next_due(now) - now)):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _do(self, task: Task) -> None:
        contact = task.contact
        try:
            if task.probe:
                await self._probe(contact)
            elif contact.origins & {Origin.JOIN, Origin.MEMBER}:
                await self._greet(contact)
            else:
                async with self._strangers:
                    await self._greet(contact)
        except Exception as error:  # whatever one peer makes us do wrong, the others go on
            self._membership.failed(contact, f"failed here: {type(error).__name__}", asyncio.get_running_loop().time())
            self._crashed(contact.url, error)
        self._changed()
        self.wake()

    async def _greet(self, contact: Contact) -> None:
        loop = asyncio.get_running_loop()
        try:
            told_us = contact.origins & {Origin.MEMBER, Origin.STRANGER}
            identity = await self._greeter.greet(contact.url, tell=not told_us)
        except OtherwiseError as error:
            self._membership.speaks_otherwise(contact, str(error), loop.time())
        except LayermeshError as error:
            self._membership.failed(contact, str(error), loop.time())
            if isinstance(error, CertificateError):
                self._failed(contact.url, str(error))
        else:
            self._membership.greeted(contact, identity, loop.time())

    async def _probe(self, contact: Contact) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            identity = await self._greeter.ask(contact)
        except CertificateError as error:  # it was started anew, or somebody stands between us
            self._membership.unproven(contact, str(error), loop.time())
        except UnreachableError as error:
            refused = isinstance(error, RefusedError)
            if not refused and loop.time() - began > self._greeter.timings.probe_timeout_s + LATE_S:
                self._membership.postponed(contact, loop.time())
            else:
                self._membership.missed(contact, str(error), loop.time(), refused=refused)
        except DeniedError as error:
            self._membership.unproven(contact, str(error), loop.time())
        except InvalidError as error:
            self._lied(contact.url, str(error))
            self._membership.unproven(contact, str(error), loop.time())
        else:
            self._membership.answered(contact, identity, loop.time())


def _difference(who: Hello, secret: bool) -> str | None:
    if who.secured:
        return "it asks for a cluster secret"
    return "it has no cluster secret" if secret else None


def _check(hello: Hello, pin: Pin | None) -> None:
    if pin is not None and hello.tls != pin.fingerprint:
        raise CertificateError(f"{hello.name} has another certificate than is shown here: somebody stands between us")


def _same(expected: str, answered: Hello) -> None:
    if expected != answered.id:
        raise InvalidError("hello: two answers from one address name different nodes")


def _identity(hello: Hello, *, member: bool, note: str | None, pin: Pin | None) -> Identity:
    return Identity(hello.id, hello.name, hello.boot, member, hello.secured, note, _daemon(hello), pin)


def _daemon(hello: Hello) -> SwarmPeer | None:
    if hello.daemon is None:
        return None
    try:
        return SwarmPeer.parse(hello.daemon.id, hello.daemon.addresses)
    except InvalidError:
        return None
