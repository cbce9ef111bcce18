"""One attempt at a blob's bytes: a file that grows, hashed behind the bytes that arrive.

The event loop says which bytes may be written and judges what came of them. Three errands do the work, each in a
thread: one writes and says how far the file reaches (`prefix`), one takes the digest and one the leaves' hashes behind
it. Each goes on by itself for as long as there is something to do, so the handoffs grow fewer as the load grows.
"""

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Final

from node.digest import Algorithm, Digest
from node.errors import FullError, LayermeshError, MismatchError
from node.hashing import DigestPass, LeafPass, Pass, Piece, Recent
from node.spans import Spans
from node.unixfs import LEAF_BYTES, Dag, build_dag
from node.workers import Errand, Nudge, Pulse, Workers

MAX_QUEUED_BYTES: Final = 8 * LEAF_BYTES
"""Beyond this much that is not written yet, whoever writes waits; beyond a quarter while many blobs grow."""
MAX_LAG_BYTES: Final = 16 * LEAF_BYTES
"""Beyond this much that is not hashed yet, whoever writes waits."""
_MODE: Final = 0o444
_MOST_AT_ONCE: Final = 512
"""The system takes 1024 pieces in one write at most."""


class Growing:
    """The file, which of its bytes are there, and the hashes that follow. `pulse` beats whenever anything moves."""

    def __init__(self, path: Path, digest: Digest | Algorithm, workers: Workers, pulse: Pulse) -> None:
        """`digest`: what the bytes must hash to, or by which algorithm it will be said when all have come (`named`)."""
        self.path = path
        self.prefix = 0
        self.size: int | None = None
        self.failure: LayermeshError | None = None
        self.verified = False
        self.ended = False
        self.closed = False
        self.lasting = False
        """Whether the file stays where it is when this attempt ends, to be resumed."""
        self._digest = digest if isinstance(digest, Digest) else None
        self._workers = workers
        self._pulse = pulse
        self._fd: int | None = None
        self._claimed = Spans()
        self._written = Spans()
        self._queue: deque[tuple[int, Piece]] = deque()
        self._put_bytes = 0
        self._written_bytes = 0
        self._recent = Recent(workers.kept)
        self._digest_pass = DigestPass(digest)
        self._leaf_pass = LeafPass()
        self._catching_up = False
        """Whether bytes that had come long before are hashed: nobody waits for those, and memory keeps none."""
        self._trusted: Dag | None = None
        self._proven = False
        """Whether leaves of the DAG that is trusted need no digest besides: this node knows the whole by its root."""
        self._placing = 0
        self._placed: set[int] = set()
        """Where leaves of the DAG that is trusted were written."""
        self._lock = Lock()
        self._tell = tell = Nudge(self._settle)
        self._writing = Errand(workers.disk, self._write, tell)
        self._digesting = Errand(workers.hashing, lambda: self._hash(self._digest_pass), tell)
        self._leafing = Errand(workers.hashing, lambda: self._hash(self._leaf_pass), tell)
        self._closing = Errand(workers.disk, self._close, tell)

    def begin(self) -> None:
        """Make the file, in a thread; bytes may be put at once."""
        self._writing.go_on()

    def resume(self, size: int) -> None:
        """The file is there already, with `size` bytes that count: they are hashed again, others follow. Blocks.

        Raises:
            FullError: when it cannot be opened.
        """
        try:
            self.path.chmod(0o644)  # whoever is not root cannot open it again to write as it was made
            self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            os.fchmod(self._fd, _MODE)
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise self._full(error) from None
        self._claimed.add(0, size)
        self._put_bytes = size
        self._catching_up = True
        self._wrote(0, size)

    def hash_by(self, algorithm: Algorithm) -> None:
        """Say by which algorithm the digest will be; what came already is hashed again where that is another one."""
        if algorithm is not self._digest_pass.algorithm:
            self._digest_pass = DigestPass(algorithm)
            self._catching_up = True
            self._advance()

    def named(self, digest: Digest) -> None:
        """Say what all bytes together must hash to, and that no more come; as `hash_by`."""
        self.hash_by(digest.algorithm)
        self._digest = digest
        self.expect(self._claimed.end)

    def fileno(self) -> int:
        """The file's descriptor; valid until `end`."""
        if self._fd is None:
            raise FullError("no byte of this blob has been written yet")
        return self._fd

    @property
    def begun(self) -> bool:
        """Whether the file is there."""
        return self._fd is not None

    @property
    def whole(self) -> bool:
        """Whether all bytes are in the file."""
        return self.size is not None and self.prefix == self.size and self._fd is not None

    @property
    def flushed(self) -> bool:
        """Whether nothing that was put waits to be written."""
        return self._put_bytes == self._written_bytes

    @property
    def crowded(self) -> bool:
        """Whether whoever writes should wait."""
        if self._claimed.prefix == self.size:  # the last piece came: who brought it may look at `prefix` next
            return not self.flushed
        many = self._workers.kept.used > self._workers.kept.limit * 3 // 4
        room = MAX_QUEUED_BYTES // 4 if many else MAX_QUEUED_BYTES
        lags = not self._catching_up and self.prefix - self._hashed_upto > MAX_LAG_BYTES
        return lags or self._put_bytes - self._written_bytes > room

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

    def trust(self, dag: Dag, *, proven: bool) -> bool:
        """Spare the leaf hashes, and let threads `place` leaves; with `proven`, which says that what has this DAG has
        the digest, spare that as well for as long as nothing else is put.

        False, and all is hashed as ever, when bytes came before: they were not verified against `dag`.
        """
        self.expect(dag.size)
        if self._claimed.end:
            return False
        self._trusted, self._proven = dag, proven
        return True

    def place(self, dag: Dag, offset: int, leaf: memoryview) -> None:
        """Write a leaf of `dag`, and keep it for a while; from any thread. The loop says when it `landed`.

        Raises:
            MismatchError: when `dag` is not trusted any more: other bytes may be there already, and hashed.
            FullError: when the disk has no room.
            LayermeshError: the failure that ended this attempt.
        """
        with self._lock:
            self.check()
            if self._trusted is not dag:
                raise MismatchError(f"{self._digest}: another source brings it now")
            self._placing += 1
        try:
            _write_all(self.fileno(), offset, [leaf], len(leaf))
            if not self._proven:
                self._recent.add(offset, leaf)
        except OSError as error:
            raise self._full(error) from None
        else:
            with self._lock:
                if self._trusted is dag:
                    self._placed.add(offset)
        finally:
            with self._lock:
                self._placing -= 1
            if self.ended:
                self._tell()  # the file may be closed now

    def landed(self, offset: int, length: int) -> None:
        """A leaf was placed.

        Raises:
            MismatchError: when it is none of the DAG that is trusted now.
            LayermeshError: the failure that ended this attempt.
        """
        self.check()
        if offset not in self._placed:
            raise MismatchError(f"{self._digest}: a leaf came of a DAG that is not trusted any more")
        self._claimed.add(offset, offset + length)
        self._put_bytes += length
        self._wrote(offset, length)
        if self._proven:
            self._advance()
        self._pulse.beat()

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
        self._prove_no_longer()  # leaves that threads do not write are promised, not proved
        frozen = data if isinstance(data, bytes) else bytes(data)
        for start, end in self._claimed.gaps(offset, stop):
            self._claimed.add(start, end)
            piece = frozen if end - start == len(frozen) else memoryview(frozen)[start - offset : end - offset]
            self._queue.append((start, piece))
            self._put_bytes += end - start
        if not self._writing.busy:  # first those who were told of these bytes: a thread would slow them
            asyncio.get_running_loop().call_soon(self._writing.go_on)

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
        one_leaf = bytes.fromhex(self._digest.hex) if self._digest and self._spared_leaves else None
        return build_dag(self.size or 0, one_leaf or self._leaf_pass.hashes())

    def end(self) -> None:
        """Give up, or finish: once no thread uses the file it is closed, and removed if not named or `lasting`."""
        self.ended = True
        self._pulse.beat()
        self._close_when_idle()

    @property
    def _spared_leaves(self) -> bool:
        if self.size is None or self.size > LEAF_BYTES or self._digest is None:
            return self._trusted is not None
        return self._trusted is not None or self._digest.algorithm is Algorithm.SHA256

    @property
    def _hashed_upto(self) -> int:
        if self._proven:
            return self.prefix
        return self._digest_pass.done if self._spared_leaves else min(self._digest_pass.done, self._leaf_pass.done)

    @property
    def _errands(self) -> tuple[Errand, ...]:
        return self._writing, self._digesting, self._leafing, self._closing  # the first sends for the next two

    @property
    def _over(self) -> bool:
        return self.ended or self.failure is not None

    def _prove_no_longer(self) -> None:
        """From the first byte on all is hashed for the digest; nobody waits for what came long before."""
        self._catching_up |= self._proven
        self._proven = False

    def _distrust(self) -> None:
        if self._trusted is None:
            return
        self._prove_no_longer()
        with self._lock:
            self._trusted = None
            self._placed.clear()
            if self._placing:  # a leaf would land on bytes that somebody else brings, and that are hashed by then
                self.failure = MismatchError(f"{self._digest}: two sources wrote at once")
        self._recent.clear()  # leaves that never landed are among it: others' bytes may take their place in the file
        self._advance()

    def _settle(self) -> None:
        """Take note of what the threads did, and let them go on."""
        if self.closed:
            self._recent.clear()
        self._recent.forget(self._hashed_upto)
        self._catching_up &= self.prefix - self._hashed_upto > MAX_LAG_BYTES
        error = next((errand.error for errand in self._errands if errand.error is not None), None)
        if error is not None and self.failure is None:
            self.failure = self._full(error)
        self._advance()
        self._close_when_idle()
        self._pulse.beat()

    def _full(self, error: Exception) -> FullError:
        return FullError(f"{self._digest or 'upload'}: the data folder cannot take it: {reason(error)}")

    def _advance(self) -> None:
        if self._over or self._fd is None:
            return
        if self._queue:
            self._writing.go_on()
        self._hash_on()
        if self.whole and (self._proven or self._digest_pass.done == self.size) and not self.verified:
            self._judge()

    def _hash_on(self) -> None:
        if not self._proven and self._digest_pass.worthwhile(self.prefix, self.whole):
            self._digesting.go_on()
        if not self._spared_leaves and self._leaf_pass.worthwhile(self.prefix, self.whole):
            self._leafing.go_on()

    def _judge(self) -> None:
        if self._proven or (self._digest is not None and self._digest_pass.agrees(self._digest)):
            self.verified = True
        else:
            self.failure = MismatchError(f"{self._digest}: the {self.size} bytes that came hash to something else")

    def _write(self) -> int:
        """Write the pieces that have waited longest, at first making the file; in a thread."""
        if self._over:
            return 0
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        if not self._queue:
            return 0
        batch: list[Piece] = []
        offset, size = self._queue[0][0], 0
        while self._queue and self._queue[0][0] == offset + size and size < LEAF_BYTES and len(batch) < _MOST_AT_ONCE:
            batch.append(self._queue.popleft()[1])
            size += len(batch[-1])
        _write_all(self._fd, offset, batch, size)
        if not self._catching_up:
            for at, data in zip(accumulate(map(len, batch), initial=offset), batch, strict=False):
                self._recent.add(at, data)
        self._wrote(offset, size)
        return size

    def _wrote(self, offset: int, size: int) -> None:
        with self._lock:
            self._written.add(offset, offset + size)
            self.prefix = self._written.prefix
            self._written_bytes += size
        self._hash_on()

    def _hash(self, each: Pass) -> int:
        """Go over the bytes that come next, from memory where they still are; in a thread."""
        start, stop = each.done, min(self.prefix, each.done + LEAF_BYTES)
        if self._over or start >= stop:
            return 0
        if pieces := self._recent.following(start, stop - start):
            for piece in pieces:
                each.take(piece)
        else:
            each.read(self.fileno(), self._recent.next(start, stop))
        return each.done - start

    def _close_when_idle(self) -> None:
        with self._lock:
            busy = self._placing or any(errand.busy for errand in self._errands)
        if self.ended and not self.closed and not busy:
            self._closing.go_on()

    def _close(self) -> int:
        fd, self._fd = self._fd, None
        with suppress(OSError):  # a disk that fails keeps nobody waiting
            if fd is not None:
                os.close(fd)
        if not self.lasting:
            with suppress(OSError):
                self.path.unlink()
        self.closed = True
        return 0


def reason(error: BaseException) -> str:
    """What the system says of a failed call, without the path."""
    return (error.strerror if isinstance(error, OSError) else None) or repr(error)


def _write_all(fd: int, offset: int, batch: Sequence[Piece], size: int) -> None:
    written = os.pwritev(fd, batch, offset)
    while written < size:
        rest = b"".join(batch)
        written += os.pwrite(fd, memoryview(rest)[written:], offset + written)
