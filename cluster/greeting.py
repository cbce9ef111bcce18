"""Greeting addresses and probing peers: the loop that does what the membership asks for."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from yarl import URL

from cluster.config import Timings
from cluster.membership import Contact, Identity, Membership, Origin, Task
from cluster.messages import Hello
from cluster.wire import MeshClient, RefusedError
from node.errors import DeniedError, InvalidError, LayermeshError, UnreachableError
from node.ipfs.kubo.multiaddrs import SwarmPeer

STRANGERS_AT_ONCE: Final = 32
LATE_S: Final = 0.5
"""An answer that is missed while this process itself was so late proves nothing."""


@dataclass(frozen=True, slots=True)
class Greeter:
    """Says hello. `hello` is who we are to members and to others; with `secret` membership is asked for and shown."""

    client: MeshClient
    hello: Callable[[bool], Hello]
    secret: bool
    timings: Timings

    async def greet(self, url: URL) -> Identity:
        """Find out who is at an address, tell it who we are, and prove to each other what can be proved.

        Raises:
            UnreachableError: when nobody answers in time.
            DeniedError: when it does not want to hear of us.
            InvalidError: when it speaks, but not our protocol.
        """
        timeout_s = self.timings.greet_timeout_s
        mine = self.hello(False)
        who = await self.client.who(url, to=None, timeout_s=timeout_s)
        if who.id == mine.id:
            return _identity(who, member=False, note=None)
        if not (self.secret and who.secured):
            await self._introduce(url, mine, who.id)
            note = (
                "it asks for a cluster secret" if who.secured else "it has no cluster secret" if self.secret else None
            )
            return _identity(who, member=False, note=note)
        try:
            proven = await self.client.greet(url, self.hello(True), to=who.id, timeout_s=timeout_s)
        except DeniedError as error:
            return _identity(who, member=False, note=f"not proved to be a member: {error}")
        _same(who.id, proven.id)
        return _identity(proven, member=True, note=None)

    async def ask(self, contact: Contact) -> Identity:
        """Ask a peer whether it is still there, and the one it was. Raises as `greet` does."""
        known = contact.identity
        member = known is not None and known.member
        to = known.id if known is not None and member else None
        who = await self.client.who(contact.url, to=to, timeout_s=self.timings.probe_timeout_s)
        return _identity(who, member=member, note=None)

    async def _introduce(self, url: URL, mine: Hello, expected: str) -> None:
        answer = await self.client.greet(url, mine, to=None, timeout_s=self.timings.greet_timeout_s)
        _same(expected, answer.id)


class Rounds:
    """Does what is due, one task a contact; what fails with one concerns nobody else."""

    def __init__(
        self,
        membership: Membership,
        greeter: Greeter,
        changed: Callable[[], None],
        lied: Callable[[URL, str], None],
        crashed: Callable[[URL, Exception], None],
    ) -> None:
        self._membership = membership
        self._greeter = greeter
        self._changed = changed
        self._lied = lied
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
            identity = await self._greeter.greet(contact.url)
        except LayermeshError as error:
            self._membership.failed(contact, str(error), loop.time())
        else:
            self._membership.greeted(contact, identity, loop.time())

    async def _probe(self, contact: Contact) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            identity = await self._greeter.ask(contact)
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


def _same(expected: str, answered: str) -> None:
    if expected != answered:
        raise InvalidError("hello: two answers from one address name different nodes")


def _identity(hello: Hello, *, member: bool, note: str | None) -> Identity:
    return Identity(hello.id, hello.name, hello.boot, member, hello.secured, note, _daemon(hello))


def _daemon(hello: Hello) -> SwarmPeer | None:
    if hello.daemon is None:
        return None
    try:
        return SwarmPeer.parse(hello.daemon.id, hello.daemon.addresses)
    except InvalidError:
        return None
