"""Files that change while the node runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from facade.watching import follow
from node.errors import StartError
from tests.facade.machine import until


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("first")
    return path


@asynccontextmanager
async def followed(file: Path) -> AsyncIterator[list[str]]:
    """What was taken of the file; `bad` cannot be used."""
    taken: list[str] = []

    def read() -> str:
        try:
            text = file.read_text()
        except FileNotFoundError:
            text = "bad"
        if text == "bad":
            raise StartError(f"{file}: bad")
        return text

    task = asyncio.ensure_future(follow([file], read, taken.append, every_s=0.005))
    try:
        yield taken
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def write(file: Path, text: str) -> None:
    """Replace the file as editors do."""
    new = file.with_suffix(".new")
    await asyncio.to_thread(new.write_text, text)
    await asyncio.to_thread(new.replace, file)


async def test_what_changed_before_the_first_look_is_seen_too(file: Path) -> None:
    async with followed(file) as taken:
        await until(lambda: taken == ["first"])


async def test_a_file_that_is_replaced_is_read_anew(file: Path) -> None:
    async with followed(file) as taken:
        await until(lambda: taken)
        await write(file, "other")
        await until(lambda: taken[-1] == "other")


async def test_a_file_that_is_bad_or_gone_leaves_all_as_it_was(file: Path) -> None:
    async with followed(file) as taken:
        await until(lambda: taken)
        await write(file, "bad")
        await asyncio.to_thread(file.unlink)
        await write(file, "good")
        await until(lambda: len(taken) > 1)
    assert set(taken) == {"first", "good"}
