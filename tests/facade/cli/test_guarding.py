"""Users, rules and TLS as an operator writes them: what holds, and what is refused in one line."""

import json
from pathlib import Path
from typing import Final

import bcrypt
import pytest

from facade.cli.config import load
from facade.cli.guarding import Guarding, exposed_passwords
from facade.cli.pulling import Doors
from facade.cli.wiring import wire
from facade.registry.access import ALL_DO_ALL, ANONYMOUS, USERS_DO_ALL, Action, allowed
from node.errors import InvalidError, LayermeshError, StartError
from node.reference import Repository
from tests.fakes.certificates import write_certificate

HASH: Final = bcrypt.hashpw(b"wonder", bcrypt.gensalt(4)).decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "layermesh.toml"


@pytest.fixture
def htpasswd(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    path.write_text(f"alice:{HASH}\n")
    return path


def guarding(file: Path, text: str, **environment: str) -> Guarding:
    """What a node is told by this file and these variables."""
    file.write_text(text)
    variables = {f"LAYERMESH_{name.upper()}": value for name, value in environment.items()}
    return wire(load({}, variables, file), {}, root=True).guarding


def refusal(file: Path, text: str, **environment: str) -> str:
    """The one line that says what is wrong."""
    with pytest.raises(LayermeshError) as caught:
        guarding(file, text, **environment)
    assert isinstance(caught.value, StartError | InvalidError) and "\n" not in str(caught.value)
    return str(caught.value)


def test_nobody_has_to_log_in_unless_told(file: Path) -> None:
    assert guarding(file, "") == Guarding()
    assert Guarding().rules == ALL_DO_ALL and Guarding().doors == Doors()


def test_users_without_rules_may_do_everything(file: Path, htpasswd: Path) -> None:
    made = guarding(file, f'[facade]\nhtpasswd = "{htpasswd}"')
    assert made.users is not None and made.users.users.knows("alice", "wonder")
    assert made.rules == USERS_DO_ALL and made.doors == Doors(users=True, login=True)


RULES: Final = """
[[facade.access]]
repositories = ["team/*", "tools"]
read = ["*"]
write = ["alice"]
[[facade.access]]
repositories = ["docker.io/*"]
read = ["anonymous"]
"""


@pytest.mark.parametrize("place", ["file", "variable"])
def test_rules_hold_as_they_are_written(file: Path, htpasswd: Path, place: str) -> None:
    rules = [
        {"repositories": ["team/*", "tools"], "read": ["*"], "write": ["alice"]},
        {"repositories": ["docker.io/*"], "read": ["anonymous"]},
    ]
    text = f'[facade]\nhtpasswd = "{htpasswd}"\n'
    written, variables = (text + RULES, {}) if place == "file" else (text, {"facade_access": json.dumps(rules)})
    made = guarding(file, written, **variables)
    tools, alpine = Repository("local", "tools"), Repository("docker.io", "library/alpine")
    assert allowed(made.rules, "alice", Action.PUSH, tools) and not allowed(made.rules, "bob", Action.PUSH, tools)
    assert allowed(made.rules, "bob", Action.PULL, tools) and not allowed(made.rules, ANONYMOUS, Action.PULL, tools)
    assert allowed(made.rules, ANONYMOUS, Action.PULL, alpine)
    assert made.doors == Doors(users=True)


def test_a_rule_in_a_variable_replaces_those_of_the_file(file: Path, htpasswd: Path) -> None:
    text = f'[facade]\nhtpasswd = "{htpasswd}"\n{RULES}'
    made = guarding(file, text, facade_access='[{"repositories": ["*"], "read": ["*"]}]')
    assert len(made.rules) == 1


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ('repositories = ["*"]\nraed = ["*"]', "[facade] access rule 1 raed is not known; did you mean read?"),
        ('repository = ["*"]', "rule 1 repository is not known; did you mean repositories?"),
        ('read = ["*"]', "rule 1 repositories is missing"),
        ("repositories = []", "rule 1 repositories is missing"),
        ('repositories = "*"', "rule 1 repositories = '*': a list of texts is expected"),
        ('repositories = ["Team/*"]', "['Team/*']: names of repositories are expected, such as team/app"),
        ('repositories = ["*"]\nread = [1]', "rule 1 read = [1]: a list of texts is expected"),
    ],
)
def test_a_wrong_rule_is_refused_by_name(file: Path, htpasswd: Path, rule: str, message: str) -> None:
    assert message in refusal(file, f'[facade]\nhtpasswd = "{htpasswd}"\n[[facade.access]]\n{rule}')


@pytest.mark.parametrize("text", ["[facade]\naccess = 1", "[facade.access]\nread = []", "[facade]\naccess = [1]"])
def test_what_is_no_list_of_rules_is_refused(file: Path, text: str) -> None:
    assert "a table [[facade.access]] is expected" in refusal(file, text)


@pytest.mark.parametrize("text", ["team/*", "{}", "[1]", '[{"repositories": ["*"]'])
def test_rules_in_a_variable_that_are_no_json_are_refused(file: Path, text: str) -> None:
    assert "LAYERMESH_FACADE_ACCESS = " in refusal(file, "", facade_access=text)
    assert "JSON such as [{" in refusal(file, "", facade_access=text)


def test_rules_without_users_are_refused(file: Path) -> None:
    assert "set [facade] htpasswd as well" in refusal(file, RULES)


def test_users_that_cannot_be_read_are_named(file: Path, htpasswd: Path, tmp_path: Path) -> None:
    text = f'[facade]\nhtpasswd = "{htpasswd}"'
    htpasswd.write_text(f"# people\nalice:{HASH}\nbob:secret\n")
    assert refusal(file, text).startswith(f"htpasswd file {htpasswd}: line 3: a bcrypt hash")
    htpasswd.unlink()
    assert refusal(file, text) == f"htpasswd file {htpasswd}: it cannot be read: no such file or directory"


def test_a_certificate_and_its_key_go_together(file: Path, tmp_path: Path) -> None:
    files = write_certificate(tmp_path)
    cert, key = f'tls_cert = "{files.certificate}"', f'tls_key = "{files.key}"'
    assert guarding(file, f"[facade]\n{cert}\n{key}").doors == Doors(tls=True)
    assert "[facade] tls_key is missing" in refusal(file, f"[facade]\n{cert}")
    assert "[facade] tls_cert is missing" in refusal(file, f"[facade]\n{key}")


@pytest.mark.parametrize("listener", ["listen", "docker_mirror"])
def test_users_or_tls_open_the_registry_listeners_to_other_machines(
    file: Path, htpasswd: Path, tmp_path: Path, listener: str
) -> None:
    beyond = f'[facade]\n{listener} = "0.0.0.0:0"\n'
    files = write_certificate(tmp_path)
    line = refusal(file, beyond)
    assert "0.0.0.0:0 would be open to other machines without a login or TLS" in line
    assert "set [facade] htpasswd, or tls_cert and tls_key, or insist with --insecure" in line
    assert guarding(file, f'{beyond}htpasswd = "{htpasswd}"').users
    assert guarding(file, f'{beyond}tls_cert = "{files.certificate}"\ntls_key = "{files.key}"').tls
    assert guarding(file, beyond, facade_insecure="true") == Guarding()


@pytest.mark.parametrize(
    ("listen", "users", "tls", "exposed"),
    [
        ("0.0.0.0:0", True, False, True),
        ("0.0.0.0:0", True, True, False),
        ("127.0.0.1:0", True, False, False),
        ("0.0.0.0:0", False, False, False),
    ],
)
def test_passwords_that_cross_a_network_as_they_are_are_noticed(
    file: Path, htpasswd: Path, tmp_path: Path, listen: str, users: bool, tls: bool, exposed: bool
) -> None:
    files = write_certificate(tmp_path)
    text = f'[facade]\nlisten = "{listen}"\ninsecure = true\n'
    text += f'htpasswd = "{htpasswd}"\n' if users else ""
    text += f'tls_cert = "{files.certificate}"\ntls_key = "{files.key}"\n' if tls else ""
    file.write_text(text)
    wiring = wire(load({}, {}, file), {}, root=True)
    assert exposed_passwords(wiring.facade, wiring.guarding) is exposed


def test_neither_opens_the_admin_listener(file: Path, htpasswd: Path) -> None:
    line = refusal(file, f'[facade]\nhtpasswd = "{htpasswd}"\n[admin]\nlisten = "0.0.0.0:0"')
    assert line.startswith("--admin 0.0.0.0:0 would be open to other machines")


PASSES: Final = '[facade.upstreams."corp.test"]\nendpoint = ["http://127.0.0.1:5000"]\naccess = "passthrough"\n'


def test_a_client_has_one_login_for_this_node_or_for_the_upstream(file: Path, htpasswd: Path) -> None:
    assert guarding(file, PASSES).users is None
    said = refusal(file, f'[facade]\nhtpasswd = "{htpasswd}"\n{PASSES}')
    assert 'upstreams."corp.test"' in said and "htpasswd" in said


def test_a_login_for_an_upstream_that_crosses_a_network_as_it_is_is_noticed(file: Path) -> None:
    file.write_text(f'[facade]\nlisten = "0.0.0.0:5050"\ninsecure = true\n{PASSES}')
    made = wire(load({}, {}, file), {}, root=True)
    assert exposed_passwords(made.facade, made.guarding)
