"""Archives as tests read them: whole, each block verified."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from node.car import BlockName, check_block, parse_header, read_name
from node.cid import Cid
from node.varint import read_varint


@dataclass(frozen=True, slots=True)
class Archive:
    """The roots of a CAR, and its sections: the bytes of each CID, and the block."""

    roots: Sequence[BlockName]
    sections: Sequence[tuple[bytes, bytes]]

    @property
    def cids(self) -> list[Cid]:
        """Its blocks, in its order."""
        return [name for raw, _ in self.sections if isinstance(name := read_name(raw)[0], Cid)]

    @property
    def blocks(self) -> list[tuple[Cid, bytes]]:
        """The same, with their bytes."""
        return list(zip(self.cids, (data for _, data in self.sections), strict=True))


def read_archive(data: bytes) -> Archive:
    """Read a CAR."""
    frames = _frames(data)
    return Archive(parse_header(next(frames)), _sections(frames))


def read_sections(data: bytes) -> list[tuple[bytes, bytes]]:
    """Read what follows the header."""
    return _sections(_frames(data))


def _sections(frames: Iterator[bytes]) -> list[tuple[bytes, bytes]]:
    sections = []
    for frame in frames:
        name, end = read_name(frame)
        check_block(name, frame[end:])
        sections.append((frame[:end], frame[end:]))
    return sections


def _frames(data: bytes) -> Iterator[bytes]:
    """What stands behind each length."""
    at = 0
    while at < len(data):
        found = read_varint(data, at)
        assert found is not None
        length, start = found
        at = start + length
        assert at <= len(data), "it is cut short"
        yield data[start:at]
