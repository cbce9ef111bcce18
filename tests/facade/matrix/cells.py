"""One cell of the matrix: a runtime pulls through a node while its upstream and its peer misbehave, then again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from cluster.config import Timings
from facade.settings import Waits
from facade.upstream.wire import Limits
from node.ipfs.kubo.kubo import Timings as KuboTimings
from tests.facade.machine import QUICK_KUBO, Machine, machine, until
from tests.facade.matrix.networks import ALONE, NETWORKS, USED, WELL, Beside, fill, heal, network_of
from tests.facade.matrix.peers import PEERS, misbehave, peer_with
from tests.facade.matrix.upstreams import NAME, TAG, UPSTREAMS, Behind, Word
from tests.fakes.images import FakeImage, make_image
from tests.fakes.peer import FakePeer, Faults
from tests.fakes.registry import FakeRegistry
from tests.fakes.runtimes.containerd import ContainerdLike
from tests.fakes.runtimes.docker import DockerLike
from tests.fakes.runtimes.line import FailedError, Host, Kind, Line, Observed, Patience
from tests.fakes.runtimes.podman import PodmanLike
from tests.fakes.runtimes.runtime import Runtime

IMAGE: Final = make_image("matrix", (1_300_000, 1_100_000, 500_000))
TRUTH: Final[Mapping[str, bytes]] = {
    TAG: IMAGE.manifest.data,
    **{str(blob.digest): blob.data for blob in (IMAGE.manifest, *IMAGE.blobs)},
}
RUNTIMES: Final[Mapping[str, Callable[[Sequence[Host]], Runtime]]] = {
    "containerd": ContainerdLike,
    "docker": DockerLike,
    "podman": PodmanLike,
}
_SECRET: Final = b"a secret of the whole cluster"
_LASTING: Final = frozenset({"confirmed_s", "stale_tag_s", "proof_s", "liar_s", "forget_after_s", "poll_wait_s"})
_PULL_S: Final = 240.0
MOST_S: Final = 3.0
"""What a failing source may cost a pull, with waits as they are by default."""
_SLACK_S: Final = 1.0
"""What a loaded machine may add to that."""
_FIRST_S: Final = 1.0
"""How long a network has for its first byte while other waits are shorter: no machine is any faster then."""
_HANGS_S: Final = 4.0
"""What sits still for less may be due to a loaded machine, however short the waits are."""
T = TypeVar("T", Waits, Limits, Timings, Patience)


@dataclass(frozen=True, slots=True)
class Cell:
    """Who pulls, what is wrong upstream, what with the peer, whether that is a member, and what with IPFS."""

    runtime: str
    upstream: str
    peer: str
    member: bool
    network: str = "none"

    def __str__(self) -> str:
        if self.network != "none":
            return f"{self.runtime}-{self.upstream}-{self.network}"
        whose = "" if self.peer == "none" else "-member" if self.member else "-stranger"
        return f"{self.runtime}-{self.upstream}-{self.peer}{whose}"

    @property
    def column(self) -> str:
        """The peer's part of the name."""
        return str(self).removeprefix(f"{self.runtime}-{self.upstream}-")

    @property
    def is_well(self) -> bool:
        """Whether no source fails."""
        well = self.peer in ("none", "good") and self.network in ("none", *WELL)
        return well and not UPSTREAMS[self.upstream].fails

    @property
    def is_believed_lie(self) -> bool:
        """Whether a member lies about mappings: it is believed once, and clients that got some of its bytes are cut."""
        return self.member and self.peer == "lies-about-the-mapping"

    @property
    def tries(self) -> int:
        """How many pulls it may take to be right again: one.

        But a lie may be believed only then; and containerd may have kept wrong bytes of every layer that was cut, and
        drops those of one with each pull.
        """
        misled = self.peer == "lies-about-the-mapping" or UPSTREAMS[self.upstream].misleads
        keeps = self.runtime == "containerd" and misled
        return 1 + self.is_believed_lie + keeps * len(IMAGE.layers)


CELLS: Final = [
    Cell(runtime, upstream, peer, member)
    for runtime in RUNTIMES
    for upstream in UPSTREAMS
    for peer in PEERS
    for member in ((False,) if peer == "none" else (False, True))
] + [Cell(runtime, "fine", "none", False, network) for runtime in RUNTIMES for network in NETWORKS]
"""Upstreams by peers; and IPFS networks alone, where upstream could do all that they do not."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pull ended: `stage` and `why` when it failed."""

    seconds: float
    observed: Observed
    stage: Kind | None = None
    why: str = ""

    @property
    def ok(self) -> bool:
        """Whether the image was pulled, and is right."""
        return self.stage is None


@dataclass(frozen=True, slots=True)
class Result:
    """How a cell ended: a direct pull, the one through the node, and the next one when all was well again."""

    direct: Outcome
    through: Outcome
    again: Outcome
    log: tuple[str, ...] = ()
    """What the node said meanwhile."""
    scale: float = 1.0
    """How long the waits were, compared with those that people have."""
    from_network: int = 0
    """How many bytes the IPFS network gave."""
    hurried: tuple[str, ...] = ()
    """What went wrong with shorter waits, before the cell was run with those that people have."""


def scaled(settings: T, scale: float) -> T:
    """The same waits, shorter by a factor; not those that outlast a pull."""
    waits: dict[str, Any] = {
        each.name: getattr(settings, each.name) * scale
        for each in fields(settings)
        if each.name.endswith("_s") and each.name not in _LASTING
    }
    return replace(settings, **waits)


def problems(cell: Cell, result: Result) -> list[str]:
    """What the node broke of its promise in this cell."""
    direct, through, again = result.direct, result.through, result.again
    found = [f"wrong bytes of {each} passed off as complete" for each in through.observed.passed_off]
    found += [f"an answer hung: {each}" for each in through.observed.stuck]
    if direct.ok and not through.ok and not cell.is_believed_lie:
        found.append(f"worse than direct: {through.why}")
    elif not through.ok and _peer_should_do(cell):
        found.append(f"a good peer has it all: {through.why}")
    elif direct.stage == "manifests" and through.stage == "blobs" and through.observed.manifests and _nobody_lied(cell):
        found.append(f"a manifest was given whose blobs cannot be had: {through.why}")
    if cell.network != "none":
        found += _of_network(cell, result)
    if not again.ok:
        found.append(f"not right again when all was well: {again.why}")
    return found


def _of_network(cell: Cell, result: Result) -> list[str]:
    """What it costs is limited as well, for all of it is waiting; and what is good there is used."""
    added_s = result.through.seconds - result.direct.seconds
    found = [f"it cost {added_s:.2f} s"] if added_s > MOST_S * result.scale + _SLACK_S else []
    return [*found, "the network was not used"] if cell.network in USED and not result.from_network else found


def _peer_should_do(cell: Cell) -> bool:
    """Whether what the peer says and has is enough: what a tag means is only a member's to say."""
    word = UPSTREAMS[cell.upstream].word
    return cell.peer == "good" and (word is Word.RIGHT or (word is Word.NONE and cell.member))


def _nobody_lied(cell: Cell) -> bool:
    """Whether no peer claimed to have the blobs without giving them."""
    return cell.peer in ("none", "good")


class Matrix:
    """Runs cells, so many at once; direct pulls are made once for each runtime and upstream."""

    def __init__(self, folder: Path, elsewhere: FakeRegistry, scale: float, at_once: int) -> None:
        self._folder, self._elsewhere, self._scale = folder, elsewhere, scale
        patience = scaled(Patience(), scale)
        self._patience = replace(patience, body_s=max(_HANGS_S, patience.body_s))
        self._slots = asyncio.Semaphore(at_once)
        self._direct: dict[tuple[str, str], asyncio.Task[Outcome]] = {}

    async def run(self, cell: Cell) -> Result:
        """Run one cell, when it is its turn."""
        key = cell.runtime, cell.upstream
        async with self._slots:
            if key not in self._direct:
                self._direct[key] = asyncio.create_task(self._run_direct(*key))
            direct = await asyncio.shield(self._direct[key])
            return await self._run(cell, direct)

    async def _run(self, cell: Cell, direct: Outcome) -> Result:
        if cell.network != "none":
            return await self._run_network(cell, direct)
        async with self._scene(cell) as (node, behind, peer):
            runtime = RUNTIMES[cell.runtime](_hosts(cell.runtime, node, behind))
            await UPSTREAMS[cell.upstream].spoil(behind)
            through = await self._pull(cell.runtime, runtime)
            await behind.heal()
            if peer is not None:
                peer.faults = Faults()
            return Result(direct, through, await self._pull_again(cell, runtime), scale=self._scale)

    async def _run_network(self, cell: Cell, direct: Outcome) -> Result:
        """A node that had the image once, and whose IPFS network has it still."""
        async with (
            self._behind() as behind,
            network_of(cell.network) as beside,
            self._node(str(cell), behind, None, (), beside) as node,
        ):
            await fill(beside, node, IMAGE, TAG)
            had = node.metrics.fetched_bytes["ipfs"]
            NETWORKS[cell.network](beside, IMAGE)
            runtime = RUNTIMES[cell.runtime](_hosts(cell.runtime, node, behind))
            through = await self._pull(cell.runtime, runtime)
            given = node.metrics.fetched_bytes["ipfs"] - had
            heal(beside)
            again = await self._pull_again(cell, runtime)
            return Result(direct, through, again, scale=self._scale, from_network=given)

    @asynccontextmanager
    async def _scene(self, cell: Cell) -> AsyncIterator[tuple[Machine, Behind, FakePeer | None]]:
        """A node before its upstream, and beside the peer, which misbehaves once the node knows what it has."""
        secret = _SECRET if cell.member else None
        async with AsyncExitStack() as stack:
            behind = await stack.enter_async_context(self._behind())
            if cell.peer == "none":
                yield await stack.enter_async_context(self._node(str(cell), behind, secret, ())), behind, None
                return
            peer = await stack.enter_async_context(peer_with(IMAGE, cell.peer, secret))
            node = await stack.enter_async_context(self._node(str(cell), behind, secret, (str(peer.url),)))
            await until(lambda: all(node.cluster.holders(one.digest) for one in (IMAGE.manifest, *IMAGE.blobs)))
            await misbehave(peer, cell.peer)
            yield node, behind, peer

    async def _run_direct(self, runtime: str, upstream: str) -> Outcome:
        async with self._behind() as behind:
            await UPSTREAMS[upstream].spoil(behind)
            outcome = await self._pull(runtime, RUNTIMES[runtime]([Host(behind.registry.url)]))
            behind.registry.heal()
            return outcome

    @asynccontextmanager
    async def _behind(self) -> AsyncIterator[Behind]:
        async with FakeRegistry() as registry:
            image: FakeImage = registry.push(NAME, IMAGE, TAG)
            yield Behind(registry, self._elsewhere, image, self._scale)

    @asynccontextmanager
    async def _node(
        self, name: str, behind: Behind, secret: bytes | None, joins: tuple[str, ...], beside: Beside = ALONE
    ) -> AsyncIterator[Machine]:
        scale = self._scale
        waits = scaled(Waits(), scale)
        async with machine(
            self._folder / name,
            behind.registry,
            secret=secret,
            joins=joins,
            waits=replace(waits, swarm_s=_FIRST_S if scale < 1 else waits.swarm_s),
            limits=scaled(Limits(), scale),
            timings=scaled(Timings(), scale),
            kubo=beside.kubo,
            kubo_timings=QUICK_KUBO if scale < 1 else KuboTimings(),
            gateways=(beside.gateway.url,) if beside.gateway is not None else (),
            leaves=scaled(Timings(), scale),
        ) as node:
            yield node

    async def _pull_again(self, cell: Cell, runtime: Runtime) -> Outcome:
        began = asyncio.get_running_loop().time()
        for _ in range(cell.tries):
            again = await self._pull(cell.runtime, runtime)
            if again.ok:
                break
        return replace(again, seconds=asyncio.get_running_loop().time() - began)

    async def _pull(self, name: str, runtime: Runtime) -> Outcome:
        clock = asyncio.get_running_loop().time
        began = clock()
        stage: Kind | None = None
        why = ""
        async with Line(self._patience, TRUTH, keep_alive=name == "containerd") as line:
            try:
                # not asyncio.timeout: a task group within may lose whose cancellation it was
                pulled = await asyncio.wait_for(runtime.pull(line, NAME, TAG), _PULL_S * self._scale)
                if pulled.manifest != IMAGE.manifest.data or len(pulled.blobs) != len(IMAGE.blobs):
                    stage, why = "manifests", "another image was pulled"
            except FailedError as error:
                stage, why = error.stage, str(error)
            except TimeoutError:
                stage, why = "blobs", "the pull has no end"
            return Outcome(clock() - began, line.observed, stage, why)


def _hosts(runtime: str, node: Machine, behind: Behind) -> list[Host]:
    mirrors = {
        "containerd": Host(node.facade, is_mirror=True, query="?ns=docker.io"),
        "docker": Host(node.docker, is_mirror=True),
        "podman": Host(node.facade, is_mirror=True, prefix="docker.io/"),
    }
    return [mirrors[runtime], Host(behind.registry.url)]
