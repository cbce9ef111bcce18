"""Docker's config.json, as found in the field."""

import base64
import json

import pytest

from facade.upstream.credentials import Helper, Login, parse_credentials
from node.errors import InvalidError


def encoded(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def read(auths: dict[str, object], **more: object) -> bytes:
    return json.dumps({"auths": auths, **more}).encode()


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"])
def test_docker_hub_is_found_under_each_of_its_keys(key: str) -> None:
    found = parse_credentials(read({key: encoded("me", "se:cret")}))
    assert found.find("registry-1.docker.io", "library/alpine") == Login("me", "se:cret")


@pytest.mark.parametrize("key", ["corp.test:5000", "http://corp.test:5000", "https://CORP.test:5000/v2/"])
def test_keys_with_scheme_and_path_are_normalised(key: str) -> None:
    found = parse_credentials(read({key: {"username": "me", "password": "secret"}}))
    assert found.find("corp.test:5000", "a") == Login("me", "secret")
    assert found.find("corp.test", "a") is None


def test_the_longest_path_wins() -> None:
    found = parse_credentials(read({"quay.io": encoded("all", "1"), "quay.io/team": encoded("team", "2")}))
    assert found.find("quay.io", "team/app") == Login("team", "2")
    assert found.find("quay.io", "teamster/app") == Login("all", "1")


def test_a_login_does_not_show_its_password() -> None:
    assert "secret" not in repr(Login("me", "secret"))


def test_an_identity_token_stands_in_for_a_password_and_is_not_shown() -> None:
    found = parse_credentials(read({"corp.test": {**encoded("me", ""), "identitytoken": "secret"}}))
    assert found.find("corp.test", "a") == Login("me", "", "secret")
    assert parse_credentials(read({"a.test": {"identitytoken": "t"}})).find("a.test", "a") == Login("", "", "t")
    assert "secret" not in repr(found)


def test_a_hosts_own_helper_comes_before_its_login_and_the_store_behind_it() -> None:
    auths: dict[str, object] = {"corp.test": encoded("me", "1"), "other.test": encoded("me", "2"), "empty.test": {}}
    helpers = {"corp.test": "ecr-login", "https://index.docker.io/v1/": "hub"}
    found = parse_credentials(read(auths, credHelpers=helpers, credsStore="desktop"))
    assert found.find("corp.test", "a") == Helper("ecr-login", "corp.test")
    assert found.find("registry-1.docker.io", "a") == Helper("hub", "https://index.docker.io/v1/")
    assert found.find("other.test", "a") == Login("me", "2")
    assert found.find("empty.test", "a") == Helper("desktop", "empty.test")
    store = parse_credentials(read({}, credsStore="desktop"))
    assert store.find("registry-1.docker.io", "a") == Helper("desktop", "https://index.docker.io/v1/")


@pytest.mark.parametrize("name", ["../evil", "a b", "-x", "a/b", ";", "x" * 65])
def test_a_helper_that_is_no_name_is_refused(name: str) -> None:
    for content in (read({}, credHelpers={"corp.test": name}), read({}, credsStore=name)):
        with pytest.raises(InvalidError, match="is no name of a program"):
            parse_credentials(content)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b'{"auths": []}',
        b'{"auths": {"a": {"auth": 5}}}',
        b'{"auths": {"a": {"auth": "c2VjcmV0"}}}',
        b'{"auths": {"a": {"auth": "***secret"}}}',
        b'{"credsStore": 1}',
    ],
)
def test_what_is_malformed_is_refused_and_no_secret_shown(content: bytes) -> None:
    with pytest.raises(InvalidError) as caught:
        parse_credentials(content)
    assert "secret" not in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)


def test_an_empty_file_holds_no_logins() -> None:
    assert parse_credentials(b"").find("a.test", "x") is None
