"""One attempt at a blob's bytes: a file that grows, hashed behind the bytes that arrive.

The event loop owns all state. Threads are handed a batch of pieces to write, or a stretch to hash, and one of each kind
works at a time; what arrives meanwhile makes up the next batch, so the handoffs grow fewer as the load grows.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from node.digest import Algorithm, Digest
from node.errors import FullError, LayermeshError, MismatchError
from node.hashing import MAX_KEPT_BYTES, DigestPass, LeafPass, Pass, Piece, Recent
from node.spans import Spans
from node.unixfs import LEAF_BYTES, Dag, build_dag
from node.workers import Pulse, Workers

MAX_QUEUED_BYTES: Final = 4 * LEAF_BYTES
"""Beyond this much that is not written yet, whoever writes waits; beyond a quarter while many blobs grow."""
MAX_LAG_BYTES: Final = 4 * LEAF_BYTES
"""Beyond this much that is not hashed yet, whoever writes waits. 16 MiB cost more CPU time, for whatever reason."""
T = TypeVar("T")


class Growing:
    """The file, which of its bytes are there, and the hashes that follow. `pulse` beats whenever anything moves."""

    def __init__(self, path: Path, digest: Digest, workers: Workers, pulse: Pulse) -> None:
        self.path = path
        self.prefix = 0
        self.size: int | None = None
        self.failure: LayermeshError | None = None
        self.verified = False
        self.ended = False
        self.closed = False
        self._closing = False
        self._digest = digest
        self._workers = workers
        self._pulse = pulse
        self._fd: int | None = None
        self._claimed = Spans()
        self._written = Spans()
        self._queue: list[tuple[int, Piece]] = []
        self._queued_bytes = 0
        self._jobs = 0
        self._busy: set[object] = set()
        self._recent = Recent(workers)
        self._digest_pass = DigestPass(digest)
        self._leaf_pass = LeafPass()
        self._trusted: Dag | None = None

    def begin(self) -> None:
        """Make the file, in a thread; bytes may be put at once."""
        self._submit(self._workers.disk, partial(_create, self.path), self._created)

    def fileno(self) -> int:
        """The file's descriptor; valid until `end`."""
        if self._fd is None:
            raise FullError("no byte of this blob has been written yet")
        return self._fd

    @property
    def whole(self) -> bool:
        """Whether all bytes are in the file."""
        return self.size is not None and self.prefix == self.size and self._fd is not None

    @property
    def flushed(self) -> bool:
        """Whether nothing that was put waits to be written."""
        return not self._queued_bytes

    @property
    def crowded(self) -> bool:
        """Whether whoever writes should wait."""
        if self._claimed.prefix == self.size:  # the last piece came: who brought it may look at `prefix` next
            return not self.flushed
        many = self._workers.kept_bytes > MAX_KEPT_BYTES * 3 // 4
        room = MAX_QUEUED_BYTES // 4 if many else MAX_QUEUED_BYTES
        return self._queued_bytes > room or self.prefix - self._hashed_upto > MAX_LAG_BYTES

    def expect(self, size: int) -> None:
        """Say how long the blob is; an earlier source's trust ends.

        Raises:
            MismatchError: when another size was promised, or more bytes came already.
        """
        if size < 0 or self.size not in (None, size) or self._claimed.end > size:
            raise MismatchError(f"{self._digest}: {size} bytes, but {self.size or self._claimed.end} were promised")
        self.size = size
        self._distrust()
        self._advance()

    def trust(self, dag: Dag) -> None:
        """Spare the leaf hashes. Bytes that came before were not verified against `dag`: then all is hashed as ever."""
        self.expect(dag.size)
        if not self._claimed.end:
            self._trusted = dag

    def put(self, offset: int, data: Piece) -> None:
        """Queue bytes to be written. Bytes that are there, or queued, stay as they were: their hash may be taken.

        Raises:
            MismatchError: when they reach past the size.
            LayermeshError: the failure that ended this attempt.
        """
        self.check()
        stop = offset + len(data)
        if self.size is not None and stop > self.size:
            raise MismatchError(f"{self._digest}: bytes up to {stop} came, but its size is {self.size}")
        if offset % LEAF_BYTES or (stop % LEAF_BYTES and stop != self.size):
            self._distrust()  # sources that verify leaves write whole leaves
        frozen = data if isinstance(data, bytes) else bytes(data)
        for start, end in self._claimed.gaps(offset, stop):
            self._claimed.add(start, end)
            piece = frozen if end - start == len(frozen) else memoryview(frozen)[start - offset : end - offset]
            self._queue.append((start, piece))
            self._queued_bytes += end - start
        self._write()

    def check(self) -> None:
        """Raise why this attempt cannot succeed, if so."""
        if self.failure is not None:
            raise type(self.failure)(str(self.failure))
        if self.ended:
            raise MismatchError(f"{self._digest}: what came of it was thrown away")

    @property
    def ready(self) -> bool:
        """Whether the bytes are verified, and all leaves hashed that need it."""
        return self.verified and (self._spared_leaves or self._leaf_pass.done == self.size)

    def dag(self) -> Dag:
        """The DAG of the bytes, once `ready`; takes some 10 ms for 10 GiB."""
        if self._trusted is not None:
            return self._trusted
        one_leaf = self._spared_leaves
        return build_dag(self.size or 0, bytes.fromhex(self._digest.hex) if one_leaf else self._leaf_pass.hashes())

    def end(self) -> None:
        """Give up, or finish: once no thread uses the file it is closed, and removed unless it has another name now."""
        self.ended = True
        self._pulse.beat()
        self._close_when_idle()

    @property
    def _spared_leaves(self) -> bool:
        one_leaf = self.size is not None and self.size <= LEAF_BYTES and self._digest.algorithm is Algorithm.SHA256
        return self._trusted is not None or one_leaf

    @property
    def _hashed_upto(self) -> int:
        return self._digest_pass.done if self._spared_leaves else min(self._digest_pass.done, self._leaf_pass.done)

    def _distrust(self) -> None:
        if self._trusted is not None:
            self._trusted = None
            self._advance()

    def _created(self, fd: int) -> None:
        self._fd = fd
        self._write()
        self._advance()

    def _write(self) -> None:
        if not self._queue or self._fd is None or self._idle_only("write"):
            return
        batch, self._queue = self._queue, []
        fd = self._fd
        self._busy.add("write")
        self._submit(self._workers.disk, partial(_write_pieces, fd, batch), lambda _: self._wrote(batch))

    def _wrote(self, batch: list[tuple[int, Piece]]) -> None:
        self._busy.discard("write")
        for offset, data in batch:
            self._written.add(offset, offset + len(data))
            self._recent.add(offset, data)
            self._queued_bytes -= len(data)
        self.prefix = self._written.prefix
        self._write()
        self._advance()

    def _advance(self) -> None:
        if self._fd is None:
            return
        self._hash(self._digest_pass)
        if not self._spared_leaves:
            self._hash(self._leaf_pass)
        if self.whole and self._digest_pass.done == self.size and self._digest_pass not in self._busy:
            self._judge()

    def _hash(self, each: Pass) -> None:
        if self._idle_only(each):
            return
        upto = each.reach(self.prefix, self.whole)
        if upto <= each.done:
            return
        if pieces := self._recent.following(each.done, upto - each.done):
            work = partial(_take, each, pieces)
        else:
            work = partial(each.read, self.fileno(), self._recent.next(each.done, upto))
        self._busy.add(each)
        self._submit(self._workers.hashing, work, lambda _: self._hashed(each))

    def _hashed(self, each: Pass) -> None:
        self._busy.discard(each)
        self._recent.forget(self._hashed_upto)
        self._advance()

    def _judge(self) -> None:
        if self.verified or self.failure is not None:
            return
        if self._digest_pass.agrees():
            self.verified = True
        else:
            self.failure = MismatchError(f"{self._digest}: the {self.size} bytes that came hash to something else")

    def _idle_only(self, worker: object) -> bool:
        return worker in self._busy or self.ended or self.failure is not None

    def _submit(self, pool: Executor, work: Callable[[], T], then: Callable[[T], None]) -> None:
        self._jobs += 1
        job = asyncio.get_running_loop().run_in_executor(pool, work)
        job.add_done_callback(lambda done: self._finished(done, then))

    def _finished(self, job: asyncio.Future[T], then: Callable[[T], None]) -> None:
        self._jobs -= 1
        error = job.exception()
        if error is None:
            then(job.result())
        elif self.failure is None:
            self.failure = FullError(f"{self._digest}: the data folder cannot take it: {reason(error)}")
        self._close_when_idle()
        self._pulse.beat()

    def _close_when_idle(self) -> None:
        if self.ended and not self._jobs and not self._closing:
            self._closing = True
            self._submit(self._workers.disk, self._close, self._closed)

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        with suppress(OSError):  # a folder that cannot be written any more keeps nobody waiting
            self.path.unlink()

    def _closed(self, _: None) -> None:
        self._fd = None
        self._recent.clear()
        self.closed = True


def reason(error: BaseException) -> str:
    """What the system says of a failed call, without the path."""
    return (error.strerror if isinstance(error, OSError) else None) or repr(error)


def _create(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)


def _take(each: Pass, pieces: Sequence[Piece]) -> None:
    for piece in pieces:
        each.take(piece)


def _write_pieces(fd: int, pieces: list[tuple[int, Piece]]) -> None:
    for offset, data in pieces:
        written = os.pwrite(fd, data, offset)
        while written < len(data):
            written += os.pwrite(fd, memoryview(data)[written:], offset + written)
