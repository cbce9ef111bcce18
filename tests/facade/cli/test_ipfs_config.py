"""The settings of a Kubo beside a node, as they are printed."""

import json
import shlex

import pytest

from facade.cli.commands import run
from facade.cli.kubo_settings import Role, kubo_settings
from facade.settings import Address


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["ipfs", "config", *arguments]) == 0
    return capsys.readouterr().out


def test_a_daemon_that_fetches_asks_this_nodes_sidecar(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, "fetch", "--json", "--kubo-sidecar", "127.0.0.1:9"))
    assert found["Routing"] == {"Type": "delegated", "DelegatedRouters": ["http://127.0.0.1:9"]}
    assert found["Internal"]["Bitswap"]["ProviderSearchDelay"] == "10ms"
    assert found["Provide"]["Enabled"] is False


@pytest.mark.parametrize("sidecar", [(), ("--kubo-sidecar", "on"), ("--kubo-sidecar", "off")])
def test_where_the_sidecar_has_no_address_yet_it_is_the_one_that_it_would_have(
    capsys: pytest.CaptureFixture[str], sidecar: tuple[str, ...]
) -> None:
    text = printed(capsys, "fetch", *sidecar)
    assert """ipfs config --json Routing.DelegatedRouters '["http://127.0.0.1:5054"]'""" in text.splitlines()
    assert "# for a daemon that fetches" in text and "--kubo-sidecar 127.0.0.1:5054" in text


@pytest.mark.parametrize("role", list(Role))
def test_the_commands_say_what_the_json_says(capsys: pytest.CaptureFixture[str], role: Role) -> None:
    lines = [shlex.split(line) for line in printed(capsys, role.value).splitlines() if not line.startswith("#")]
    assert all(words[:3] == ["ipfs", "config", "--json"] and len(words) == 5 for words in lines)
    nested = json.loads(printed(capsys, role.value, "--json"))
    for _, _, _, name, value in lines:
        found = nested
        for part in name.split("."):
            found = found[part]
        assert found == json.loads(value)


def test_a_private_swarm_is_a_network_with_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    plain, private = (kubo_settings(role, Address("127.0.0.1", 1)) for role in (Role.NETWORK, Role.PRIVATE_SWARM))
    assert plain.settings.items() <= private.settings.items()
    assert "swarm.key" in printed(capsys, "private-swarm") and "swarm.key" not in printed(capsys, "network")


def test_roles_that_one_daemon_cannot_have_together_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    types = {}
    for role in Role:
        assert "# a daemon has one role: Routing.Type is none in a network and delegated" in printed(capsys, role.value)
        types[role] = kubo_settings(role, Address("127.0.0.1", 1)).settings["Routing.Type"]
    assert types == {Role.NETWORK: "none", Role.FETCH: "delegated", Role.PRIVATE_SWARM: "none"}


def test_other_roles_are_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ipfs", "config", "other"]) == 2
    assert "'network', 'fetch', 'private-swarm'" in capsys.readouterr().err
    assert run(["ipfs", "confg"]) == 2
    assert "did you mean config?" in capsys.readouterr().err
