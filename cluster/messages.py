"""What nodes tell each other: msgpack maps with a version, at most so large, read into types or refused."""

import re
from collections.abc import Sequence
from typing import Annotated, Final, TypeVar

import msgpack
import msgspec

from node.catalog import Change, Changes, Holding, LogEntry, RecordChange, SharedChange, TagChange, Visibility
from node.cid import Cid, Codec
from node.digest import Digest
from node.errors import InvalidError
from node.ipfs.kubo.multiaddrs import MOST_ADDRESSES
from node.records import Content, Kind, Record
from node.reference import OWN, Repository, Tag
from node.repositories import TagSeen
from node.unixfs import LEAF_BYTES

VERSION: Final = 1
CONTENT_TYPE: Final = "application/msgpack"
MAX_HELLO_BYTES: Final = 16 * 1024
MAX_PAGE_BYTES: Final = 2 * 1024 * 1024
MAX_PAGE_ENTRIES: Final = 2000
MAX_BLOB_BYTES: Final = 1 << 40
"""Larger blobs are not believed to exist: the size bounds what fetching one may cost."""
MAX_SEQ: Final = 1 << 62
MAX_STAMP: Final = 1 << 62
_PRINTABLE: Final = re.compile(r"[ -~\u00a0-\u0233]{1,64}")

Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
Seq = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
Size = Annotated[int, msgspec.Meta(ge=0, le=MAX_BLOB_BYTES)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=256)]
MediaType = Annotated[str, msgspec.Meta(pattern=r"^[ -~]{0,255}\Z")]
"""ASCII, so that a page of records that others wrote is never too long to be passed on."""


class Daemon(msgspec.Struct, frozen=True):
    """The IPFS daemon beside a node: its peer id, and the multiaddrs it listens at, without that id."""

    id: Name
    addresses: Annotated[list[Text], msgspec.Meta(max_length=MOST_ADDRESSES)]


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """Who a node is. `boot` is new with each start; `port` is the mesh port to reach it at.

    `url` is where it says it is reached, believed of members only. `secured`: it has a cluster secret. `daemon`: the
    IPFS daemon beside it, if there is one that whoever reads this may know. `tls`: the fingerprint of its certificate,
    where it speaks TLS and nothing else.
    """

    v: int
    id: Id
    name: Name
    boot: Id
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    secured: bool
    software: Annotated[str, msgspec.Meta(max_length=64)] = ""
    url: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    daemon: Daemon | None = None
    tls: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")] | None = None


class BlobLine(msgspec.Struct, frozen=True, array_like=True, tag="blob", forbid_unknown_fields=True):
    """A log line: the node holds this blob."""

    seq: Seq
    digest: Text
    cid: Annotated[bytes, msgspec.Meta(max_length=36)]
    size: Size
    visibility: Annotated[str, msgspec.Meta(pattern=r"^(public|members)\Z")]


class DropLine(msgspec.Struct, frozen=True, array_like=True, tag="drop", forbid_unknown_fields=True):
    """A log line: the node holds this blob no longer, or no longer shows it."""

    seq: Seq
    digest: Text


class _SeenLine(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    seq: Seq
    namespace: Text
    repository: Text
    tag: Text
    digest: Text
    media_type: Text
    seen_at: float
    size: Size


class TagLine(_SeenLine, frozen=True, tag="tag"):
    """A log line: what the node last saw a tag stand for; `lasting` as `TagSeen` has it."""

    lasting: bool = False


class SharedLine(msgspec.Struct, frozen=True, array_like=True, tag="shared", forbid_unknown_fields=True):
    """A log line: the node shares this blob as content of a repository; without a CID, it does so no longer."""

    seq: Seq
    namespace: Text
    repository: Text
    digest: Text
    cid: Annotated[bytes, msgspec.Meta(max_length=36)]
    size: Size


class SharedTagLine(_SeenLine, frozen=True, tag="shared-tag"):
    """A log line: what the node last saw a tag of a repository stand for whose content it shares."""


class RecordLine(msgspec.Struct, frozen=True, array_like=True, tag="record", forbid_unknown_fields=True):
    """A log line: a record of one of the cluster's own repositories; `digest` is empty for what was deleted."""

    seq: Seq
    repository: Text
    kind: Annotated[str, msgspec.Meta(pattern=r"^(tag|manifest|blob)\Z")]
    name: Text
    digest: Text
    size: Size
    media_type: MediaType
    artifact_type: MediaType
    subject: Text
    stamp: Annotated[int, msgspec.Meta(ge=0, le=MAX_STAMP)]
    origin: Id
    base: Annotated[int, msgspec.Meta(ge=0, le=MAX_STAMP)]


Line = BlobLine | DropLine | TagLine | RecordLine | SharedLine | SharedTagLine


class LogPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a node's change log."""

    v: int
    log: Id
    upto: Seq
    more: bool
    lines: Annotated[list[Line], msgspec.Meta(max_length=MAX_PAGE_ENTRIES)]


Message = TypeVar("Message", Hello, LogPage)


def encode(message: Hello | LogPage) -> bytes:
    """The bytes of a message."""
    return bytes(msgpack.packb(msgspec.to_builtins(message, builtin_types=(bytes,))))


def decode_hello(data: bytes) -> Hello:
    """Read a greeting.

    Raises:
        InvalidError: naming what is wrong: too large, no msgpack, an unknown version, a wrong type.
    """
    hello = _decode(data, Hello, MAX_HELLO_BYTES)
    if not _PRINTABLE.fullmatch(hello.name):
        raise InvalidError("hello: the name has characters that cannot be shown")
    return hello


def decode_page(data: bytes) -> LogPage:
    """Read a page of a log.

    Raises:
        InvalidError: naming what is wrong: too large, no msgpack, an unknown version, a wrong type.
    """
    return _decode(data, LogPage, MAX_PAGE_BYTES)


def shown_name(name: str) -> str:
    """A name as others accept it: at most 64 characters that can be shown."""
    return "".join(c if _PRINTABLE.fullmatch(c) else "?" for c in name)[:64].strip()


def page_of(changes: Changes) -> LogPage:
    """The page that says what the store's log says."""
    return LogPage(
        v=VERSION,
        log=changes.log_id,
        upto=changes.upto,
        more=changes.more,
        lines=[_line(entry) for entry in changes.entries],
    )


def read_lines(lines: Sequence[Line]) -> list[LogEntry]:
    """The changes that a page tells of.

    Raises:
        InvalidError: when a digest, CID, repository, tag or record is malformed.
    """
    return [_read_line(line) for line in lines]


def _line(entry: LogEntry) -> Line:
    if isinstance(entry, RecordChange):
        return _record_line(entry.seq, entry.record)
    if isinstance(entry, SharedChange):
        return _shared_line(entry)
    if isinstance(entry, TagChange):
        seen, repository = entry.seen, entry.seen.repository
        what = (seen.tag.text, str(seen.digest), seen.media_type, seen.seen_at, seen.size)
        if entry.shared:
            return SharedTagLine(entry.seq, repository.namespace, repository.name, *what)
        return TagLine(entry.seq, repository.namespace, repository.name, *what, lasting=seen.lasting)
    if entry.holding is None:
        return DropLine(entry.seq, str(entry.digest))
    holding = entry.holding
    return BlobLine(entry.seq, str(entry.digest), holding.cid.raw, holding.size, holding.visibility.value)


def _shared_line(entry: SharedChange) -> SharedLine:
    cid, size = (entry.holding.cid.raw, entry.holding.size) if entry.holding else (b"", 0)
    return SharedLine(entry.seq, entry.repository.namespace, entry.repository.name, str(entry.digest), cid, size)


def _record_line(seq: int, record: Record) -> RecordLine:
    content = record.content
    return RecordLine(
        seq,
        record.repository,
        record.kind.value,
        record.name,
        str(content.digest) if content else "",
        content.size if content else 0,
        content.media_type if content else "",
        content.artifact_type if content else "",
        str(content.subject) if content and content.subject else "",
        record.stamp,
        record.origin,
        record.base,
    )


def _read_record(line: RecordLine) -> RecordChange:
    repository, kind = Repository.parse(OWN, line.repository), Kind(line.kind)
    name = Tag.parse(line.name).text if kind is Kind.TAG else str(Digest.parse(line.name))
    content = None
    if line.digest:
        digest = Digest.parse(line.digest)
        if kind is not Kind.TAG and str(digest) != name:
            raise InvalidError(f"log: a {kind} named {name} cannot be {digest}")
        subject = Digest.parse(line.subject) if line.subject else None
        content = Content(digest, line.size, line.media_type, line.artifact_type, subject)
    return RecordChange(line.seq, Record(repository.name, kind, name, content, line.stamp, line.origin, line.base))


def _read_line(line: Line) -> LogEntry:
    if isinstance(line, RecordLine):
        return _read_record(line)
    digest = Digest.parse(line.digest)
    if isinstance(line, DropLine):
        return Change(line.seq, digest, None)
    if isinstance(line, BlobLine):
        return Change(line.seq, digest, _holding(digest, line, Visibility(line.visibility)))
    repository = Repository.parse(line.namespace, line.repository)
    if isinstance(line, SharedLine):
        holding = _holding(digest, line, Visibility.SHARED) if line.cid else None
        return SharedChange(line.seq, repository, digest, holding)
    lasting = isinstance(line, TagLine) and line.lasting
    seen = TagSeen(repository, Tag.parse(line.tag), digest, line.media_type, line.seen_at, line.size, lasting)
    return TagChange(line.seq, seen, shared=isinstance(line, SharedTagLine))


def _holding(digest: Digest, line: BlobLine | SharedLine, visibility: Visibility) -> Holding:
    cid = Cid.from_raw(line.cid)
    if (cid.codec is Codec.RAW) != (line.size <= LEAF_BYTES):
        raise InvalidError(f"log: a blob of {line.size} bytes cannot have the CID it is given")
    return Holding(digest, cid, line.size, visibility)


def _decode(data: bytes, kind: type[Message], most: int) -> Message:
    name = kind.__name__
    if len(data) > most:
        raise InvalidError(f"{name}: {len(data)} bytes, at most {most} are accepted")
    try:
        plain = msgpack.unpackb(
            data,
            max_str_len=1024,
            max_bin_len=1024,
            max_array_len=MAX_PAGE_ENTRIES,
            max_map_len=64,
            max_ext_len=0,
        )
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise InvalidError(f"{name}: no msgpack within the limits ({_short(error)})") from None
    if not isinstance(plain, dict):
        raise InvalidError(f"{name}: a map is expected")
    version = plain.get("v")
    if version != VERSION or isinstance(version, bool):
        raise InvalidError(f"{name}: version {str(version)[:20]!r} is not spoken here, only {VERSION}")
    try:
        return msgspec.convert(plain, kind, builtin_types=(bytes,))
    except (msgspec.ValidationError, OverflowError) as error:
        raise InvalidError(f"{name}: {_short(error)}") from None


def _short(error: Exception) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(error)[:160]) or type(error).__name__
