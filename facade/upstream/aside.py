"""Which upstreams were just out of reach: bookkeeping only, the clock is passed in."""

from collections.abc import Callable


class Aside:
    """Puts a name aside for a while after each failure; a success brings it back at once."""

    def __init__(self, aside_s: float, clock: Callable[[], float]) -> None:
        self._aside_s = aside_s
        self._clock = clock
        self._until: dict[str, float] = {}

    def failed(self, name: str) -> None:
        """It gave no answer."""
        self._until[name] = self._clock() + self._aside_s

    def answered(self, name: str) -> None:
        """It gave one, whichever."""
        self._until.pop(name, None)

    def available(self, name: str) -> bool:
        """Whether it is worth asking now."""
        return self._until.get(name, float("-inf")) <= self._clock()
