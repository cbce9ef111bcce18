"""A flight as the sink of its sources: whether what came waits for this machine's own disk."""

from facade.flight import Flight
from facade.metrics import Metrics
from facade.sources import UPSTREAM, Plan
from node.blobs import Ingest
from node.digest import Digest
from node.reference import Repository
from node.source import LeafWriter, Wanted
from node.unixfs import Dag
from tests.fakes.peer import dag_of

DATA = b"a leaf"
WANTED = Wanted(Repository("docker.io", "team/app"), Digest.of(DATA), len(DATA))


class Noting:
    """The file of a flight; notes whether the flight says that something is being stored while something is."""

    size, prefix = len(DATA), 0

    def __init__(self) -> None:
        self.flight = Flight(WANTED, Metrics(), is_open=True)
        self.noted: list[tuple[str, bool]] = []

    def note(self, what: str) -> None:
        self.noted.append((what, self.flight.is_storing))

    async def write(self, offset: int, data: bytes) -> None:
        self.note("written")

    async def trust(self, dag: Dag) -> LeafWriter:
        return lambda offset, leaf: self.note("placed")

    async def landed(self, offset: int, length: int) -> None:
        self.note("landed")

    def fileno(self) -> int:
        raise AssertionError("nobody reads")


async def test_a_flight_says_while_something_is_being_stored_so_that_its_disk_is_not_taken_for_a_slow_source() -> None:
    file = Noting()
    flight: Flight = file.flight
    ingest: Ingest = file  # type: ignore[assignment]
    flight.begin(ingest)
    flight.follow(Plan(UPSTREAM, streamed=True))
    await flight.write(0, DATA)
    file.note("nothing")
    place = await flight.trust(dag_of(DATA))
    assert place is not None
    place(0, memoryview(DATA))
    file.note("nothing")
    await flight.landed(0, len(DATA))
    file.note("nothing")
    stored = [("written", True), ("nothing", False), ("placed", True), ("nothing", False), ("landed", True)]
    assert file.noted == [*stored, ("nothing", False)]
