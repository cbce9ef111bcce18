"""Blobs from upstream into a sink, over the wire, with every way a body can go wrong."""

import asyncio
import gzip

import pytest

from facade.upstream.bodies import Pace
from facade.upstream.client import Upstreams
from facade.upstream.ranges import Span, parse_content_range
from node.digest import Digest
from node.errors import DeniedError, LayermeshError, MismatchError, NotFoundError, ThrottledError, UnreachableError
from node.source import Wanted
from tests.facade.upstream.conftest import LIMITS, REPOSITORY
from tests.fakes.faults import Fault
from tests.fakes.images import make_bytes
from tests.fakes.registry import FakeRegistry
from tests.fakes.sinks import MemorySink

DATA = make_bytes("blob", 1_000_003)
LONG = make_bytes("long", 10_000_000)


def hold(registry: FakeRegistry, fault: Fault | None = None, data: bytes = DATA) -> Wanted:
    digest = registry.put_blob("team/app", data)
    registry.fault("blobs", digest, fault)
    return Wanted(REPOSITORY, digest, len(data))


@pytest.mark.parametrize("size", [0, 1, 1_000_003])
async def test_a_blob_arrives_whole_in_one_request(registry: FakeRegistry, upstreams: Upstreams, size: int) -> None:
    wanted, sink = hold(registry, data=DATA[:size]), MemorySink()
    await upstreams.fill(wanted, sink)
    assert (bytes(sink.data), sink.size) == (DATA[:size], size)
    assert len(registry.requests) == 1


async def test_the_first_bytes_are_written_while_the_rest_is_awaited(
    registry: FakeRegistry, upstreams: Upstreams
) -> None:
    wanted, sink = hold(registry, Fault(stall_after=1)), MemorySink()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        filling = tasks.create_task(upstreams.fill(wanted, sink))
        await sink.started.wait()
        assert bytes(sink.data) == DATA[:1]
        registry.heal()
        await filling
    assert bytes(sink.data) == DATA


@pytest.mark.parametrize(
    "fault",
    [
        Fault(cut_after=0, times=1),
        Fault(cut_after=400_000, times=1),
        Fault(length=len(DATA), data=DATA[:5], times=1),
        Fault(stall_after=0, times=1),
        Fault(stall_after=400_000, times=1),
    ],
)
async def test_a_body_that_breaks_or_stalls_is_gone_on_with_by_range(
    registry: FakeRegistry, upstreams: Upstreams, fault: Fault
) -> None:
    wanted, sink = hold(registry, fault), MemorySink()
    await upstreams.fill(wanted, sink)
    assert bytes(sink.data) == DATA
    _, resumed = registry.requests
    assert resumed.headers.get("Range", "bytes=0-").startswith("bytes=")


class GapSink(MemorySink):
    """What stands behind the first MB came from somebody else, up to the eighth."""

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        self.data += bytes(data)[len(self.data) - offset :]
        if 1_000_000 <= len(self.data) < 8_000_000:
            self.data[:] = LONG[:8_000_000]


async def test_what_came_from_others_before_is_not_brought_again(registry: FakeRegistry, upstreams: Upstreams) -> None:
    wanted, sink = hold(registry, data=LONG), GapSink()
    await upstreams.fill(wanted, sink)
    assert bytes(sink.data) == LONG
    assert [request.headers.get("Range") for request in registry.requests] == [None, "bytes=8000000-"]


async def test_a_body_that_breaks_again_and_again_is_given_up_and_what_came_stays(
    registry: FakeRegistry, upstreams: Upstreams
) -> None:
    wanted, sink = hold(registry, Fault(cut_after=1000)), MemorySink()
    with pytest.raises(UnreachableError):
        await upstreams.fill(wanted, sink)
    assert bytes(sink.data) == DATA[: 1000 * LIMITS.retry.tries]
    registry.heal()
    await upstreams.fill(wanted, sink)
    assert bytes(sink.data) == DATA


async def test_a_body_that_stalls_on_every_connection_is_given_up(registry: FakeRegistry, upstreams: Upstreams) -> None:
    wanted, sink = hold(registry, Fault(stall_after=0)), MemorySink()
    with pytest.raises(UnreachableError):
        await upstreams.fill(wanted, sink)


async def test_a_body_that_breaks_goes_on_as_long_as_each_connection_brings_it_forward(
    registry: FakeRegistry, upstreams: Upstreams
) -> None:
    data = make_bytes("long", 6 * LIMITS.least_bytes)
    wanted, sink = hold(registry, Fault(cut_after=LIMITS.least_bytes), data), MemorySink()
    await upstreams.fill(wanted, sink)
    assert bytes(sink.data) == data
    assert registry.sent[str(wanted.digest)] == len(data)


async def test_a_body_that_breaks_goes_on_behind_a_registry_that_comes_back(
    registry: FakeRegistry, upstreams: Upstreams
) -> None:
    wanted, sink = hold(registry, Fault(cut_after=400_000, times=1)), MemorySink()
    registry.fault("blobs", "*", Fault(status=502, ranged=True, times=1))
    await upstreams.fill(wanted, sink)
    assert bytes(sink.data) == DATA
    assert len(registry.requests) == 3


async def test_a_body_that_breaks_and_finds_a_silent_registry_is_given_up_in_time(
    registry: FakeRegistry, upstreams: Upstreams
) -> None:
    wanted, sink = hold(registry, Fault(cut_after=1000, ranged=False)), MemorySink()
    registry.fault("blobs", "*", Fault(silent=True, ranged=True))
    async with asyncio.timeout(LIMITS.resume_s + 1):
        with pytest.raises(UnreachableError):
            await upstreams.fill(wanted, sink)


async def test_a_body_that_breaks_and_finds_another_one_is_refused(
    registry: FakeRegistry, upstreams: Upstreams
) -> None:
    wanted, sink = hold(registry, Fault(cut_after=1000, times=1)), MemorySink()
    registry.fault("blobs", "*", Fault(data=DATA[:500_000], ranged=True))
    with pytest.raises(MismatchError):
        await upstreams.fill(wanted, sink)
    assert bytes(sink.data) == DATA[:1000]


async def test_a_slow_body_is_no_stalled_one(registry: FakeRegistry, upstreams: Upstreams) -> None:
    wanted, sink = hold(registry, Fault(drip=(2, 0.1)), data=DATA[:10]), MemorySink()
    await upstreams.fill(wanted, sink)
    assert len(registry.requests) == 1


@pytest.mark.parametrize("ignore_range", [False, True])
async def test_a_fill_goes_on_from_the_prefix_even_when_the_range_is_ignored(
    registry: FakeRegistry, upstreams: Upstreams, ignore_range: bool
) -> None:
    wanted, sink = hold(registry, Fault(ignore_range=ignore_range)), MemorySink(DATA[:300_000], len(DATA))
    await upstreams.fill(wanted, sink)
    assert bytes(sink.data) == DATA
    assert sink.offsets[0] == 300_000
    assert registry.requests[0].headers["Range"] == "bytes=300000-"


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 0-999902/1000003",
        "bytes 100-1000002/1000004",
        "bytes 100-1000002/1000002",
        "bytes 101-1000003/1000004",
        "bytes 100-500/1000003",
        "bytes */1000003",
        "lines 100-1000002/1000003",
        "nonsense",
    ],
)
async def test_a_range_that_was_not_asked_for_is_refused_before_any_byte(
    registry: FakeRegistry, upstreams: Upstreams, content_range: str
) -> None:
    wanted, sink = hold(registry, Fault(content_range=content_range)), MemorySink(DATA[:100], len(DATA))
    with pytest.raises(MismatchError):
        await upstreams.fill(wanted, sink)
    assert not sink.offsets


@pytest.mark.parametrize(
    "fault",
    [
        Fault(data=DATA[:-1]),
        Fault(data=DATA + b"x"),
        Fault(encoding="br"),
    ],
)
async def test_a_wrong_length_or_encoding_is_refused_before_any_byte(
    registry: FakeRegistry, upstreams: Upstreams, fault: Fault
) -> None:
    wanted, sink = hold(registry, fault), MemorySink()
    with pytest.raises(MismatchError):
        await upstreams.fill(wanted, sink)
    assert not sink.offsets


@pytest.mark.parametrize("size_is_known", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_that_comes_as_gzip_is_decoded_as_a_direct_pull_would(
    registry: FakeRegistry, upstreams: Upstreams, size_is_known: bool, chunked: bool
) -> None:
    known = hold(registry, Fault(encoding="gzip", chunked=chunked, method="GET"))
    sink = MemorySink()
    await upstreams.fill(known if size_is_known else Wanted(REPOSITORY, known.digest), sink)
    assert bytes(sink.data) == DATA


async def test_gzip_that_breaks_off_or_is_none_is_no_whole_body(registry: FakeRegistry, upstreams: Upstreams) -> None:
    for fault in (Fault(encoding="gzip", cut_after=len(DATA) // 2), Fault(encoding="x-gzip")):
        wanted, sink = hold(registry, fault), MemorySink()
        with pytest.raises((UnreachableError, MismatchError)):
            await upstreams.fill(wanted, sink)
        assert bytes(sink.data) == DATA[: len(sink.data)]


async def test_a_blob_shorter_than_what_is_here_contradicts_it(registry: FakeRegistry, upstreams: Upstreams) -> None:
    wanted, sink = hold(registry, Fault(data=DATA[:50])), MemorySink(DATA[:100], len(DATA))
    with pytest.raises(MismatchError):
        await upstreams.fill(wanted, sink)


@pytest.mark.parametrize("size_is_known", [True, False])
async def test_a_body_without_a_length_is_accepted(
    registry: FakeRegistry, upstreams: Upstreams, size_is_known: bool
) -> None:
    known = hold(registry, Fault(chunked=True, method="GET"))
    sink = MemorySink()
    await upstreams.fill(known if size_is_known else Wanted(REPOSITORY, known.digest), sink)
    assert bytes(sink.data) == DATA


@pytest.mark.parametrize("data", [DATA + b"more", DATA[:-5]])
async def test_a_body_without_a_length_must_still_have_the_size_promised(
    registry: FakeRegistry, upstreams: Upstreams, data: bytes
) -> None:
    wanted = hold(registry, Fault(chunked=True, data=data))
    with pytest.raises((MismatchError, UnreachableError)):
        await upstreams.fill(wanted, MemorySink())


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, NotFoundError), (403, DeniedError), (429, ThrottledError), (502, UnreachableError)],
)
async def test_each_failure_has_its_name(
    registry: FakeRegistry, upstreams: Upstreams, status: int, error: type[LayermeshError]
) -> None:
    wanted = hold(registry, Fault(status=status))
    with pytest.raises(error):
        await upstreams.fill(wanted, MemorySink())


@pytest.mark.parametrize("fault", [Fault(), Fault(chunked=True, method="HEAD"), Fault(status=403, method="HEAD")])
async def test_the_size_of_a_blob_is_told_whatever_the_head_leaves_out(
    registry: FakeRegistry, upstreams: Upstreams, fault: Fault
) -> None:
    wanted = hold(registry, fault)
    assert await upstreams.blob_size(REPOSITORY, wanted.digest) == len(DATA)
    assert registry.sent[str(wanted.digest)] <= 1


@pytest.mark.parametrize(
    ("asked", "status", "content_range", "body"),
    [
        ("bytes=5-9", 206, "bytes 5-9/1000003", DATA[5:10]),
        ("bytes=1000000-", 206, "bytes 1000000-1000002/1000003", DATA[-3:]),
        ("bytes=-2", 206, "bytes 1000001-1000002/1000003", DATA[-2:]),
        ("bytes=1000003-", 416, "bytes */1000003", b""),
    ],
)
async def test_a_range_passes_through(
    registry: FakeRegistry, upstreams: Upstreams, asked: str, status: int, content_range: str, body: bytes
) -> None:
    wanted = hold(registry)
    async with upstreams.passthrough(REPOSITORY, wanted.digest, asked) as passage:
        got = b"".join([piece async for piece in passage.body])
    assert (passage.status, passage.content_range, got) == (status, content_range, body)
    assert (passage.total, passage.length) == (len(DATA), len(body))


async def test_a_range_that_upstream_ignores_passes_as_the_whole(registry: FakeRegistry, upstreams: Upstreams) -> None:
    wanted = hold(registry, Fault(ignore_range=True))
    async with upstreams.passthrough(REPOSITORY, wanted.digest, "bytes=5-9") as passage:
        assert (passage.status, passage.content_range, passage.total) == (200, None, len(DATA))


async def test_another_range_than_asked_for_does_not_pass(registry: FakeRegistry, upstreams: Upstreams) -> None:
    wanted = hold(registry, Fault(content_range="bytes 6-10/1000003"))
    with pytest.raises(MismatchError):
        async with upstreams.passthrough(REPOSITORY, wanted.digest, "bytes=5-9"):
            pass


@pytest.mark.parametrize(
    "fault", [Fault(cut_after=1000, times=1), Fault(stall_after=1000, times=2), Fault(cut_after=0, times=1)]
)
async def test_a_range_that_breaks_or_stalls_passes_on_as_one(
    registry: FakeRegistry, upstreams: Upstreams, fault: Fault
) -> None:
    wanted = hold(registry, fault)
    async with upstreams.passthrough(REPOSITORY, wanted.digest, "bytes=500-900000") as passage:
        assert b"".join([piece async for piece in passage.body]) == DATA[500:900_001]
    assert registry.sent[str(wanted.digest)] == 900_001 - 500


async def test_a_range_that_breaks_does_not_go_on_with_another_blob(
    registry: FakeRegistry, upstreams: Upstreams
) -> None:
    wanted = hold(registry, Fault(cut_after=1000, times=1))
    registry.fault("blobs", "*", Fault(data=DATA[:-1], ranged=True))
    async with upstreams.passthrough(REPOSITORY, wanted.digest, "bytes=500-900000") as passage:
        with pytest.raises(MismatchError):
            assert not [piece async for piece in passage.body if not piece]


async def test_a_range_that_breaks_again_and_again_is_given_up(registry: FakeRegistry, upstreams: Upstreams) -> None:
    wanted = hold(registry, Fault(cut_after=1000))
    async with upstreams.passthrough(REPOSITORY, wanted.digest, "bytes=0-900000") as passage:
        with pytest.raises(UnreachableError):
            assert not [piece async for piece in passage.body if not piece]
    assert registry.sent[str(wanted.digest)] == 1000 * LIMITS.retry.tries


async def test_sixteen_blobs_at_once_arrive_whole(registry: FakeRegistry, upstreams: Upstreams) -> None:
    wanted = [hold(registry, data=make_bytes(f"blob-{number}", 300_000)) for number in range(16)]
    sinks = [MemorySink() for _ in wanted]
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        for one, sink in zip(wanted, sinks, strict=True):
            tasks.create_task(upstreams.fill(one, sink))
    assert [Digest.of(bytes(sink.data)) for sink in sinks] == [one.digest for one in wanted]


def test_a_body_falls_behind_by_the_time_spent_waiting_for_it() -> None:
    pace = Pace(least_bytes=100, window_s=4.0)
    assert [pace.falls_behind(count, 1.0) for count in (0, 0, 0, 99)] == [False, False, False, True]
    assert [pace.falls_behind(count, 2.0) for count in (1, 99, 0, 0)] == [False, False, False, True]
    assert not any(pace.falls_behind(1, 0.0) for _ in range(1000))


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes 0-4/10", Span(0, 5, 10)),
        ("bytes 3-9/*", Span(3, 10, None)),
        ("bytes */7", Span(0, 0, 7)),
        ("bytes 5-4/10", None),
        ("bytes 0-10/10", None),
        ("bytes -1/10", None),
        ("", None),
        (None, None),
    ],
)
def test_content_range_is_read_strictly(header: str | None, span: Span | None) -> None:
    assert parse_content_range(header) == span


async def test_a_gzip_body_that_brings_nothing_is_given_up_like_one_that_stalls(
    registry: FakeRegistry, upstreams: Upstreams
) -> None:
    empty = gzip.compress(b"")  # one member after another, each of which stands for nothing
    fault = Fault(encoding="x-gzip", data=empty * 1000, drip=(len(empty), 0.05), chunked=True, method="GET")
    async with asyncio.timeout(10):
        with pytest.raises(UnreachableError, match=r"nothing that counts|does not go on"):
            await upstreams.fill(hold(registry, fault), MemorySink())
