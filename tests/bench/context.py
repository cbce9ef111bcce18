"""What every measurement is given, and how samples are taken in alternation."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.rows import Missing, MissingToolError, Outcome
from tests.bench.servers import Server

Sampler = Callable[[], float]
OURS = "layermesh"


@dataclass(frozen=True, slots=True)
class Bench:
    """A work folder of the measurement's own, and how much to measure."""

    name: str
    work: Path
    rounds: int
    seconds: float
    say: Callable[[str], None]

    def started(
        self, stack: ExitStack, peers: Mapping[str, Callable[[], AbstractContextManager[Server]]]
    ) -> tuple[dict[str, Server], list[Outcome]]:
        """Start the peers that are installed; name the others."""
        servers: dict[str, Server] = {}
        missing: list[Outcome] = []
        for peer, start in peers.items():
            try:
                servers[peer] = stack.enter_context(start())
            except MissingToolError as error:
                missing.append(Missing(self.name, error.peer, error.provides))
        return servers, missing


def alternate(rounds: int, contenders: Mapping[str, Sampler]) -> dict[str, tuple[float, ...]]:
    """`rounds` samples of each contender, in turns: A B C, B C A, ... so that drift and order touch all alike.

    One round before these is dropped: it warms up.
    """
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for index, order in enumerate(rotations(rounds + 1, list(contenders))):
        for name in order:
            value = contenders[name]()
            if index:
                samples[name].append(value)
    return {name: tuple(values) for name, values in samples.items()}


def rotations(rounds: int, names: list[str]) -> Iterator[list[str]]:
    """The names, starting one further each round."""
    for index in range(rounds):
        first = index % len(names)
        yield names[first:] + names[:first]
