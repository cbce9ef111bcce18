"""The facade's users, read from a file as htpasswd writes it."""

import time

import bcrypt
import pytest

from facade.registry.htpasswd import Users, parse_htpasswd
from node.errors import InvalidError

ALICE = bcrypt.hashpw(b"wonder", bcrypt.gensalt(4)).decode()
AS_APACHE = ALICE.replace("$2b$", "$2y$")


def test_names_and_hashes_are_read_and_the_rest_is_passed_over() -> None:
    users = parse_htpasswd(f"# people\n\nalice:{AS_APACHE}\r\n  bob:{ALICE}\n".encode())
    assert users.hashes == {"alice": AS_APACHE.encode(), "bob": ALICE.encode()}


def test_an_empty_file_holds_nobody() -> None:
    assert parse_htpasswd(b"") == Users()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("alice", "line 2: NAME:HASH is expected"),
        (f":{ALICE}", "line 2: NAME:HASH is expected"),
        ("alice:", "line 2: NAME:HASH is expected"),
        ("alice:$apr1$abc$def", "line 2: a bcrypt hash of cost 4 to 15 is expected"),
        (f"alice:{ALICE[:-1]}", "line 2: a bcrypt hash"),
        (f"alice:{ALICE}x", "line 2: a bcrypt hash"),
        (f"alice:{ALICE.replace('$04$', '$31$')}", "line 2: a bcrypt hash of cost 4 to 15"),
        (f"anonymous:{ALICE}", "line 2: 'anonymous' is no name for a user"),
        (f"*:{ALICE}", "line 2: '\\*' is no name for a user"),
        (f"first:{ALICE}", "line 2: 'first' stands on an earlier line already"),
    ],
)
def test_a_malformed_line_is_named_without_its_hash(line: str, message: str) -> None:
    with pytest.raises(InvalidError, match=message) as caught:
        parse_htpasswd(f"first:{ALICE}\n{line}".encode())
    assert "$2" not in str(caught.value)


def test_a_file_in_another_encoding_is_refused() -> None:
    with pytest.raises(InvalidError, match="not UTF-8"):
        parse_htpasswd(b"\xff:x")


def test_only_the_right_password_of_a_user_opens() -> None:
    users = parse_htpasswd(f"alice:{AS_APACHE}\nbob:{bcrypt.hashpw(b'y' * 72, bcrypt.gensalt(4)).decode()}".encode())
    assert users.knows("alice", "wonder") and users.knows("bob", "y" * 80)
    assert not users.knows("alice", "Wonder") and not users.knows("bob", "wonder")
    assert not users.knows("carol", "wonder") and not users.knows("", "wonder")


def test_nobody_gets_in_where_there_is_nobody() -> None:
    assert not Users().knows("alice", "")


def test_hashes_are_never_shown() -> None:
    assert "$2" not in repr(parse_htpasswd(f"alice:{ALICE}".encode()))


def test_a_name_that_nobody_has_costs_what_a_wrong_password_costs() -> None:
    users = parse_htpasswd(b"alice:" + bcrypt.hashpw(b"wonder", bcrypt.gensalt(9)))

    def cost(name: str) -> float:
        """Seconds of processor time, the least of some."""
        spent = []
        for _ in range(5):
            began = time.thread_time()
            assert not users.knows(name, "wrong")
            spent.append(time.thread_time() - began)
        return min(spent)

    assert 0.5 < cost("nobody") / cost("alice") < 2
