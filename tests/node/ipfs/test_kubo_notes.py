"""What is known for a while of a daemon that works."""

import pytest

from node.ipfs.kubo import notes
from node.ipfs.kubo.notes import Notes, Topic


async def test_what_was_told_last_of_each_topic_is_known_until_it_ends() -> None:
    told = Notes()
    told.tell(Topic.WRONG, "wrong")
    told.tell(Topic.FULL, "full")
    told.tell(Topic.FULL, "full as well")
    assert list(told.known) == ["full as well", "wrong"] and told.of(Topic.FULL) == "full as well"
    told.end(Topic.FULL)
    told.end(Topic.LACKS)
    assert list(told.known) == ["wrong"]


async def test_what_was_told_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Notes()
    monkeypatch.setattr(notes, "_KNOWN_S", {Topic.FULL: 0.0, Topic.WRONG: 60.0})
    told.tell(Topic.FULL, "full")
    told.tell(Topic.WRONG, "wrong")
    assert list(told.known) == ["wrong"]
