"""What is asked of a gateway, and how answers are told apart."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.errors import InvalidError
from node.formats import (
    EntityBytes,
    Format,
    Question,
    Scope,
    UnacceptableError,
    UnsupportedError,
    content_type,
    disposition,
    etag,
    is_known,
    read_question,
)

RAW, CAR = "application/vnd.ipld.raw", "application/vnd.ipld.car"


@pytest.mark.parametrize(
    ("query", "accept", "expected"),
    [
        ({}, [], Format.PLAIN),
        ({}, ["*/*"], Format.PLAIN),
        ({}, ["text/html,application/xhtml+xml,*/*;q=0.8"], Format.PLAIN),
        ({}, ["application/octet-stream"], Format.PLAIN),
        ({}, [RAW], Format.RAW),
        ({}, [f"{RAW}, */*"], Format.RAW),
        ({}, [f"*/*, {CAR};q=0.5"], Format.PLAIN),
        ({}, [f"{RAW};q=0.5", f"{CAR};version=1"], Format.CAR),
        ({}, [f"{RAW};q=0, {CAR};q=0.1"], Format.CAR),
        ({}, [f"{CAR};version=2, {RAW};q=0.1"], Format.RAW),
        ({}, ["application/vnd.ipld.dag-json, */*;q=0.1"], Format.PLAIN),
        ({}, [RAW.upper()], Format.RAW),
        ({"format": "raw"}, [CAR], Format.RAW),
        ({"format": "car"}, [RAW], Format.CAR),
        ({"format": "car"}, ["application/vnd.ipld.dag-json"], Format.CAR),
    ],
)
def test_the_query_wins_over_accept_and_there_the_weight_decides(
    query: dict[str, str], accept: list[str], expected: Format
) -> None:
    assert read_question(query, accept).format is expected


@pytest.mark.parametrize(
    ("query", "accept", "dups"),
    [
        ({"format": "car"}, [], False),
        ({"format": "car", "car-dups": "y"}, [f"{CAR};dups=n"], True),
        ({"format": "car"}, [f"{CAR}; version=1; order=dfs; dups=y"], True),
        ({}, [f'{CAR}; order="unk"; dups=y'], True),
        ({}, [f"{CAR};order=foo, {CAR};order=dfs;dups=y;q=0.5"], True),
        ({"format": "car", "car-order": "dfs", "car-version": "1"}, [f"{CAR};order=foo"], False),
    ],
)
def test_parameters_of_a_car_come_from_the_query_before_accept(
    query: dict[str, str], accept: list[str], dups: bool
) -> None:
    question = read_question(query, accept)
    assert question.dups is dups
    assert content_type(question) == f"{CAR}; version=1; order=dfs; dups={'y' if dups else 'n'}"


@pytest.mark.parametrize(
    ("query", "accept", "error"),
    [
        ({"format": "dag-cbor"}, [], UnsupportedError),
        ({"format": "tar"}, [], UnsupportedError),
        ({}, ["application/vnd.ipld.dag-json"], UnsupportedError),
        ({"format": "car", "car-version": "2"}, [], UnacceptableError),
        ({"format": "car", "car-order": "bfs"}, [], UnacceptableError),
        ({"format": "car", "car-dups": "x"}, [], UnacceptableError),
        ({}, [f"{CAR};version=2"], UnacceptableError),
        ({"format": "html"}, [], InvalidError),
        ({"format": ""}, [], InvalidError),
        ({"format": "ipns-record"}, [], InvalidError),
        ({}, ["application/vnd.ipfs.ipns-record"], InvalidError),
        ({"format": "car", "dag-scope": "some"}, [], InvalidError),
        ({"format": "car", "entity-bytes": "1:2", "dag-scope": "all"}, [], InvalidError),
        ({}, [",".join(["a/b"] * 40)], InvalidError),
        ({}, ["a/b" * 1000] * 3, InvalidError),
    ],
)
def test_what_is_not_made_or_not_meant_is_refused(
    query: dict[str, str], accept: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        read_question(query, accept)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("0:*", 10, range(10)),
        ("0:9", 10, range(10)),
        ("2:3", 10, range(2, 4)),
        ("9:100", 10, range(9, 10)),
        ("-3:*", 10, range(7, 10)),
        ("-99:*", 10, range(10)),
        ("-99:-3", 10, range(8)),
        ("5:-2", 10, range(5, 9)),
        ("9:-9", 10, range(9, 9)),
        ("0:*", 0, range(0)),
        ("7:*", 0, range(7, 7)),
    ],
)
def test_entity_bytes_mean_what_is_there_of_them(text: str, size: int, expected: range) -> None:
    found = EntityBytes.parse(text).within(size)
    assert (found.start, found.stop) == (expected.start, expected.stop) or not (found or expected)


@pytest.mark.parametrize("text", ["", "1", "*:1", "1:", "3:2", "-2:-3", "a:b", "1:2:3", "1.5:2", "0:9" + "0" * 20])
def test_malformed_entity_bytes_are_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="entity-bytes"):
        EntityBytes.parse(text)


def test_entity_bytes_behind_the_end_are_refused_and_imply_their_scope() -> None:
    with pytest.raises(InvalidError, match="there are 10 bytes"):
        EntityBytes.parse("10:*").within(10)
    assert read_question({"format": "car", "entity-bytes": "0:1"}, []).scope is Scope.ENTITY


@pytest.mark.parametrize(
    ("query", "accept", "location"),
    [
        ({}, [RAW], "format=raw"),
        ({"format": "raw"}, [RAW], None),
        ({"format": "raw"}, [CAR], "format=raw"),
        ({"format": "raw"}, [], None),
        ({}, [CAR], "format=car&car-version=1&car-order=dfs&car-dups=n"),
        ({"format": "car"}, [], None),
        ({"format": "car"}, [f"{CAR};dups=y"], "format=car&car-version=1&car-order=dfs&car-dups=y"),
        (
            {"dag-scope": "block"},
            [f"{CAR};dups=y"],
            "format=car&dag-scope=block&car-version=1&car-order=dfs&car-dups=y",
        ),
        ({}, ["*/*"], None),
    ],
)
def test_a_cache_is_told_where_what_accept_chose_would_be(
    query: dict[str, str], accept: list[str], location: str | None
) -> None:
    assert read_question(query, accept).location == location


def test_no_two_answers_that_differ_have_one_tag() -> None:
    part = EntityBytes(0, 5)
    questions = [
        Question(Format.PLAIN),
        Question(Format.RAW),
        *(Question(Format.CAR, scope, dups=dups) for scope in Scope for dups in (True, False)),
        Question(Format.CAR, Scope.ENTITY, part),
        Question(Format.CAR, Scope.ENTITY, EntityBytes(0, None)),
    ]
    tags = {etag(question, path, "bafy") for question in questions for path in ("/ipfs/bafy",)}
    tags |= {etag(Question(Format.CAR), "/ipfs/root/a", "bafy")}
    assert len(tags) == len(questions) + 1
    assert etag(Question(Format.CAR, Scope.BLOCK), "/ipfs/bafy", "bafy").startswith('"block.bafy.car.')


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("*", True),
        ('"a.raw"', True),
        ('W/"a.raw"', True),
        ('"x", W/"a.raw" , "y"', True),
        ('"a"', False),
        ("a.raw", False),
    ],
)
def test_tags_are_compared_weakly(header: str | None, expected: bool) -> None:
    assert is_known(header, '"a.raw"') is expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (Question(Format.PLAIN), None),
        (Question(Format.PLAIN, filename="a.txt"), 'inline; filename="a.txt"'),
        (Question(Format.PLAIN, filename="a.txt", download=True), 'attachment; filename="a.txt"'),
        (Question(Format.PLAIN, download=True), "attachment"),
        (Question(Format.RAW), 'attachment; filename="bafy.bin"'),
        (Question(Format.CAR), 'attachment; filename="bafy.car"'),
        (Question(Format.CAR, filename='a"b\\c/d\r\n.car'), 'attachment; filename="a_b_c_d__.car"'),
        (
            Question(Format.PLAIN, filename="test\u0442\u0435\u0441\u0442.pdf"),
            "inline; filename=\"test____.pdf\"; filename*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.pdf",
        ),
    ],
)
def test_a_file_name_is_given_and_cannot_break_out_of_its_header(question: Question, expected: str | None) -> None:
    assert disposition(question, "bafy") == expected


@pytest.mark.parametrize("text", ['"' * 8000, '"' + '\\"' * 4000, '"\\' * 4000, 'a/b;c="\\', ';"' * 4000])
def test_quotations_that_do_not_end_cost_no_more_than_others(text: str) -> None:
    with contextlib.suppress(InvalidError):
        assert read_question({}, [text]).format is Format.PLAIN


@given(
    query=st.dictionaries(
        st.sampled_from(["format", "dag-scope", "entity-bytes", "car-dups", "car-order", "filename"]),
        st.one_of(st.sampled_from(["raw", "car", "all", "0:*", "y", "dfs"]), st.text(max_size=20)),
    ),
    accept=st.lists(st.one_of(st.sampled_from([RAW, CAR, "*/*"]), st.text(max_size=60)), max_size=4),
)
def test_whatever_is_asked_is_understood_or_refused_with_a_reason(query: dict[str, str], accept: list[str]) -> None:
    try:
        question = read_question(query, accept)
    except InvalidError as error:
        assert str(error)
        return
    said = disposition(question, "bafy") or ""
    assert said.isascii() and said.isprintable()
    assert (question.location or "").isascii()
