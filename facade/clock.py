"""Noticing that this machine's clock was set: tags' ages, proofs and members' messages all carry its time."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger(__name__)
JUMP_S: Final = 30.0
LOOK_EVERY_S: Final = 5.0


class ClockWatch:
    """Compares the wall clock (unix seconds) with one that nobody can set; both are passed in."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()
        self.warning: str | None = None
        """What the operator should know of the last jump, if there was one."""

    def look(self) -> float | None:
        """By how many seconds the wall clock was set since the last look; None when by less than 30."""
        offset = self._wall() - self._steady()
        jumped = offset - self._offset
        if abs(jumped) < JUMP_S:
            return None
        self._offset = offset
        self.warning = (
            f"this machine's clock was set {'forward' if jumped > 0 else 'back'} by {abs(jumped):.0f} s: members refuse"
            " messages that are more than 60 s off, and tags' ages are wrong by as much; let NTP keep its time"
        )
        return jumped

    async def run(self) -> None:
        """Look every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self.look() is not None:
                log.warning(self.warning or "")
