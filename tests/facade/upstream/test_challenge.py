"""Challenges and Retry-After, as registries send them and as they should not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facade.upstream.challenge import parse_challenges, retry_after_s


def test_a_comma_within_quotes_does_not_split_a_parameter() -> None:
    (found,) = parse_challenges(['Bearer realm="https://a.test/t",service="a.test",scope="repository:x:pull,push"'])
    assert found.scheme == "bearer"
    assert found.parameters == {"realm": "https://a.test/t", "service": "a.test", "scope": "repository:x:pull,push"}


def test_several_challenges_in_one_line_and_in_many_are_told_apart() -> None:
    lines = ['Basic realm="a", charset="UTF-8", Bearer realm="https://b"', "Negotiate", "NTLM dG9rZW4=, Digest x=y"]
    found = parse_challenges(lines)
    assert [each.scheme for each in found] == ["basic", "bearer", "negotiate", "ntlm", "digest"]
    assert found[0].parameters == {"realm": "a", "charset": "UTF-8"}
    assert found[1].parameters == {"realm": "https://b"}
    assert found[4].parameters == {"x": "y"}


def test_escapes_plain_values_and_case_are_read() -> None:
    (found,) = parse_challenges([r'BEARER Realm = "a\"b\\c" , service=plain'])
    assert found.parameters == {"realm": 'a"b\\c', "service": "plain"}


@pytest.mark.parametrize("line", ["", ",,", "=", 'realm="x"', 'Bearer realm="never ends', '"quoted"'])
def test_a_malformed_line_gives_no_parameters(line: str) -> None:
    assert all(not each.parameters for each in parse_challenges([line]))


@given(st.text(max_size=200))
def test_any_text_is_survived(line: str) -> None:
    assert all(each.scheme == each.scheme.lower() for each in parse_challenges([line]))
    assert (retry_after_s(line, 0.0) or 0.0) >= 0.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("99999999999999999999", 86400.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, 10.0) == seconds
