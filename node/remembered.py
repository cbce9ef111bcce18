"""Answers kept in memory, and never older than the change that made them wrong."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """The answers used last, at most so many. That there is nothing (None) is an answer as well."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._answers: OrderedDict[K, V] = OrderedDict()
        self._changes = 0

    async def of(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """The answer for `key`; `ask` is asked for what is not remembered."""

        async def ask_one(_: Sequence[K]) -> Mapping[K, V]:
            return {key: await ask()}

        return (await self.of_all((key,), ask_one))[key]

    async def of_all(self, keys: Sequence[K], ask: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> dict[K, V]:
        """The answers for `keys`; `ask` is asked at once for all that are not remembered."""
        answers = {key: self._answers[key] for key in keys if key in self._answers}
        for key in answers:
            self._answers.move_to_end(key)
        if unknown := [key for key in keys if key not in answers]:
            answers.update(await self._ask(unknown, ask))
        return answers

    async def _ask(self, keys: Sequence[K], ask: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> Mapping[K, V]:
        """Ask, and once more where a change came in between: the answer may be from before it."""
        changes = self._changes
        asked = await ask(keys)
        if changes != self._changes:
            changes = self._changes
            asked = await ask(keys)
        if changes == self._changes:
            for key, answer in asked.items():
                self._keep(key, answer)
        return asked

    def learn(self, answers: Mapping[K, V]) -> None:
        """These hold from now on."""
        self._changes += 1
        for key, answer in answers.items():
            self._keep(key, answer)

    def forget(self, keys: Collection[K]) -> None:
        """What is remembered of these holds no longer."""
        self._changes += bool(keys)
        for key in keys:
            self._answers.pop(key, None)

    def clear(self) -> None:
        """Nothing that is remembered holds any longer."""
        self._changes += 1
        self._answers.clear()

    def _keep(self, key: K, answer: V) -> None:
        self._answers[key] = answer
        self._answers.move_to_end(key)
        if len(self._answers) > self._most:
            self._answers.popitem(last=False)
