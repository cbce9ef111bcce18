"""A client that costs little: HTTP/1.1 over a blocking socket, bodies taken in large steps.

wrk copies 8 KiB at a time and keeps a core busy at 1.5 GB/s, so it hides what separates the servers. Two ways to take a
body instead:

- DISCARD drops the bytes inside the kernel (`recv` with MSG_TRUNC on TCP, tcp(7)) and is woken once in 256 KiB
  (SO_RCVLOWAT). What is measured is the server. Without the second part the client wakes for each segment, and what is
  measured is how fast a virtual machine wakes a sleeping core.
- COPY reads into one 256 KiB buffer: the least that any real client does.
"""

import select
import socket
import struct
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tests.bench.rows import MeasureError

_STEP: Final = 256 << 10
_ROOM: Final = bytearray(4 << 20)
_LIMIT_S: Final = 60


class Taking(StrEnum):
    """How the bytes of a body are taken."""

    DISCARD = "discards"
    COPY = "copies"


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer; header names in lower case."""

    status: int
    headers: dict[str, str]

    @property
    def length(self) -> int:
        """Content-Length."""
        return int(self.headers["content-length"])


class Wire:
    """One keep-alive connection, one request at a time."""

    def __init__(self, host: str, port: int, taking: Taking = Taking.DISCARD) -> None:
        self.host = f"{host}:{port}"
        self.taking = taking
        self.socket = socket.create_connection((host, port), timeout=_LIMIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(True)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _LIMIT_S, 0))
        self._early = b""
        self._low_water = 1
        self.left = 0

    def send(self, target: str, *, method: str = "GET", accept: str = "*/*") -> None:
        """Send a request; the answer before has been read whole."""
        request = f"{method} {target} HTTP/1.1\r\nHost: {self.host}\r\nAccept: {accept}\r\n\r\n"
        self.socket.sendall(request.encode())

    def head(self, *, bodiless: bool = False) -> Head:
        """Wait for status and headers.

        Raises:
            MeasureError: when the connection ends, or the answer is not 200 with a length.
        """
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._some(4096)
        text, _, self._early = received.partition(b"\r\n\r\n")
        lines = text.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:])
        head = Head(int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in pairs})
        if head.status != 200 or "content-length" not in head.headers:
            raise MeasureError(f"{self.host} answered {lines[0]!r} {head.headers}: {self._early[:200]!r}")
        self.left = 0 if bodiless else head.length - len(self._early)
        return head

    def body(self) -> bytes:
        """The whole body: for small ones."""
        body = bytearray(self._early)
        while self.left:
            piece = self._some(min(self.left, 1 << 20))
            self.left -= len(piece)
            body += piece
        return bytes(body)

    def first_byte(self) -> float:
        """The clock when at least one byte of the body is here."""
        if not self._early:
            self._early = self._some(1)
            self.left -= 1
        return time.perf_counter()

    def take_some(self, most: int = len(_ROOM)) -> int:
        """Take what has come of the body, up to `most` bytes, without waiting; how many bytes that was."""
        room, how = (min(most, _STEP), 0) if self.taking is Taking.COPY else (most, socket.MSG_TRUNC)
        try:
            count = self.socket.recv_into(_ROOM, min(self.left, room), how | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        if not count:
            raise MeasureError(f"{self.host} cut an answer {self.left} bytes before its end")
        self.left -= count
        return count

    def wake_less(self) -> None:
        """While much is missing, be woken for large pieces only (DISCARD); for callers that wait for readability.

        A `recv` that waits would not do: it takes the first bytes, and is not woken for the rest if they are fewer.
        """
        low_water = _STEP if self.taking is Taking.DISCARD and self.left >= _STEP else 1
        if low_water != self._low_water:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low_water)
            self._low_water = low_water

    def take_body(self) -> None:
        """Take the rest of the body."""
        ready = select.poll()
        ready.register(self.socket, select.POLLIN)
        while self.left:
            self.wake_less()
            if not ready.poll(_LIMIT_S * 1000):
                raise MeasureError(f"{self.host} sent nothing for {_LIMIT_S} s")
            self.take_some()
        self.wake_less()  # of the next head, every byte matters

    def _some(self, room: int) -> bytes:
        received = self.socket.recv(room)
        if not received:
            raise MeasureError(f"{self.host} closed the connection")
        return received

    def close(self) -> None:
        """Hang up."""
        self.socket.close()
