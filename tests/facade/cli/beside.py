"""A fake Kubo beside commands and nodes that are other processes."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from tests.fakes.kubo import FakeKubo, fake_kubo


@contextmanager
def beside(kubo: FakeKubo) -> Iterator[FakeKubo]:
    """Run it in a thread, for commands and nodes are other processes."""
    loop, ready = asyncio.new_event_loop(), Future[None]()
    stop: Future[asyncio.Event] = Future()

    async def serve() -> None:
        event = asyncio.Event()
        stop.set_result(event)
        async with fake_kubo(kubo):
            ready.set_result(None)
            await event.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="fake kubo")
    thread.start()
    try:
        ready.result(10)
        yield kubo
    finally:
        loop.call_soon_threadsafe(stop.result(10).set)
        thread.join(10)
        loop.close()
