"""Memories that keep what was noted last."""

from typing import Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")
MOST: Final = 4096


def remember(memory: dict[K, V], key: K, value: V, most: int = MOST) -> None:
    """Note an entry as the newest; of more than `most`, the oldest goes."""
    memory.pop(key, None)
    if len(memory) >= most:
        del memory[next(iter(memory))]
    memory[key] = value
