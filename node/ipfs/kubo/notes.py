"""What people should know of a daemon that works all the same, such as that its disk is full."""

import asyncio
from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class Topic(Enum):
    """What a note is about; what is told last of a topic is what is known of it."""

    FULL = auto()
    LACKS = auto()
    WRONG = auto()
    SLOW = auto()


_KNOWN_S: Final[Mapping[Topic, float]] = {
    Topic.FULL: 150.0,
    Topic.LACKS: 600.0,
    Topic.WRONG: 600.0,
    Topic.SLOW: 60.0,
}
"""For how long what is told is known; a full disk is met again within a minute, by who publishes."""


class Notes:
    """Each is known for a while, and for longer when it is told again."""

    def __init__(self) -> None:
        self._told: dict[Topic, tuple[str, float]] = {}

    def tell(self, topic: Topic, words: str) -> None:
        """Know something for a while."""
        self._told[topic] = words, asyncio.get_running_loop().time() + _KNOWN_S[topic]

    def end(self, topic: Topic) -> None:
        """It is so no longer."""
        self._told.pop(topic, None)

    def of(self, topic: Topic) -> str | None:
        """What is known of one topic."""
        words, until = self._told.get(topic, (None, 0.0))
        return words if asyncio.get_running_loop().time() < until else None

    @property
    def known(self) -> tuple[str, ...]:
        """All that is known now."""
        return tuple(words for words in map(self.of, Topic) if words is not None)
