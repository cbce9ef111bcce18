"""Which value wins, and how wrong ones are refused."""

import os
from pathlib import Path

import pytest

from facade.cli.config import load
from facade.cli.keys import KEYS
from facade.cli.tables import Configuration, default_data, default_name
from node.errors import InvalidError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An empty configuration file."""
    path = tmp_path / "layermesh.toml"
    path.touch()
    return path


def refusal(
    *, flags: dict[str, object] | None = None, environment: dict[str, str] | None = None, file: Path | None = None
) -> str:
    """The one line that a configuration is refused with."""
    with pytest.raises(InvalidError) as caught:
        load(flags or {}, environment or {}, file)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_word_the_defaults_of_the_design_hold() -> None:
    configuration = load({}, {})
    assert configuration == Configuration()
    assert (configuration.facade.listen, configuration.admin.listen) == ("127.0.0.1:5050", "127.0.0.1:5052")
    assert (configuration.facade.docker_mirror, configuration.cluster.listen) == ("127.0.0.1:5053", "0.0.0.0:5051")


def test_a_flag_wins_over_the_environment_which_wins_over_the_file(file: Path) -> None:
    file.write_text('[facade]\nlisten = "127.0.0.1:1"\ndocker_mirror = "127.0.0.1:2"\n[admin]\nlisten = "127.0.0.1:3"')
    environment = {"LAYERMESH_FACADE_LISTEN": "127.0.0.1:11", "LAYERMESH_FACADE_DOCKER_MIRROR": "127.0.0.1:12"}
    configuration = load({"facade_listen": "127.0.0.1:21"}, environment, file)
    assert configuration.facade.listen == "127.0.0.1:21"
    assert configuration.facade.docker_mirror == "127.0.0.1:12"
    assert configuration.admin.listen == "127.0.0.1:3"


def test_the_file_can_be_named_by_the_environment(file: Path) -> None:
    file.write_text('[node]\nname = "left"')
    assert load({}, {"LAYERMESH_CONFIG": str(file)}).node.name == "left"


def test_every_key_has_a_variable_of_its_own_derived_from_its_place() -> None:
    variables = {key.place: key.variable for key in KEYS}
    assert variables["[node] data"] == "LAYERMESH_DATA"
    assert variables["[admin] listen"] == "LAYERMESH_ADMIN_LISTEN"
    assert len(set(variables.values())) == len(KEYS)


def test_every_key_of_the_tables_can_be_set_and_no_other() -> None:
    tables = {name: getattr(Configuration(), name) for name in Configuration.__struct_fields__}
    assert {(key.section, key.name) for key in KEYS} == {
        (section, name) for section, table in tables.items() for name in table.__struct_fields__
    }


def test_lists_in_a_variable_are_written_with_commas_or_spaces() -> None:
    environment = {
        "LAYERMESH_CLUSTER_JOIN": "http://one.test:5051, http://two.test:5051",
        "LAYERMESH_CLUSTER_MDNS_INTERFACE": "10.0.0.1 10.0.0.2",
    }
    cluster = load({}, environment).cluster
    assert cluster.join == ("http://one.test:5051", "http://two.test:5051")
    assert cluster.mdns_interface == ("10.0.0.1", "10.0.0.2")


def test_a_list_on_the_command_line_replaces_the_files(file: Path) -> None:
    file.write_text('[cluster]\njoin = ["http://one.test:5051"]')
    assert load({"cluster_join": ("http://two.test:5051",)}, {}, file).cluster.join == ("http://two.test:5051",)


@pytest.mark.parametrize(("text", "meant"), [("true", True), ("false", False), ("1", True), ("0", False)])
def test_a_variable_switches_on_and_off(text: str, meant: bool) -> None:
    assert load({}, {"LAYERMESH_CLUSTER_MDNS": text}).cluster.mdns is meant


def test_no_mdns_says_false_and_only_when_written() -> None:
    assert load({"cluster_mdns": True}, {}).cluster.mdns is False
    assert load({"cluster_mdns": False}, {}).cluster.mdns is True


@pytest.mark.parametrize("off", ["off", False])
def test_the_docker_mirror_can_be_off(off: object, file: Path) -> None:
    file.write_text(f"[facade]\ndocker_mirror = {'false' if off is False else repr(off)}")
    assert load({}, {}, file).facade.docker_mirror is None


def test_the_kubo_sidecar_is_off_unless_told_and_has_an_address_of_its_own(file: Path) -> None:
    assert load({}, {}).facade.kubo_sidecar is None
    assert load({"facade_kubo_sidecar": "on"}, {}).facade.kubo_sidecar == "127.0.0.1:5054"
    assert load({}, {"LAYERMESH_FACADE_KUBO_SIDECAR": "127.0.0.1:7"}).facade.kubo_sidecar == "127.0.0.1:7"
    for said, meant in (("true", "127.0.0.1:5054"), ('"on"', "127.0.0.1:5054"), ("false", None), ('"off"', None)):
        file.write_text(f"[facade]\nkubo_sidecar = {said}")
        assert load({}, {}, file).facade.kubo_sidecar == meant
    assert load({"facade_kubo_sidecar": "off"}, {"LAYERMESH_FACADE_KUBO_SIDECAR": "on"}).facade.kubo_sidecar is None


def test_an_upstream_flag_changes_the_endpoint_and_leaves_what_the_file_says_besides(file: Path) -> None:
    file.write_text(
        '[facade.upstreams."corp.test"]\nendpoint = "https://a.test"\npublic = true\naccess = "credentials"'
    )
    upstreams = load({"facade_upstreams": ("Corp.Test=http://b.test:5000",)}, {}, file).facade.upstreams
    assert upstreams["corp.test"].endpoint == ("http://b.test:5000",)
    assert (upstreams["corp.test"].public, upstreams["corp.test"].access) == (True, "credentials")


@pytest.mark.parametrize("way", ["flags", "variable", "file"])
def test_a_registry_may_have_several_endpoints(file: Path, way: str) -> None:
    words = ("corp.test=https://a.test", "ghcr.io=https://c.test", "Corp.test=http://b.test:5000")
    flags = {"facade_upstreams": words} if way == "flags" else {}
    environment = {"LAYERMESH_FACADE_UPSTREAMS": ",".join(words)} if way == "variable" else {}
    if way == "file":
        file.write_text('[facade.upstreams."corp.test"]\nendpoint = ["https://a.test", "http://b.test:5000"]')
    endpoints = load(flags, environment, file).facade.upstreams["corp.test"].endpoint
    assert endpoints == ("https://a.test", "http://b.test:5000")


@pytest.mark.parametrize(("text", "tls"), [("true", True), ("false", False), ("1", True)])
def test_a_variable_says_yes_or_no(text: str, tls: bool) -> None:
    assert load({}, {"LAYERMESH_CLUSTER_TLS": text}).cluster.tls is tls
    assert "true or false is expected" in refusal(environment={"LAYERMESH_CLUSTER_TLS": "perhaps"})


def test_a_file_says_everything(file: Path, tmp_path: Path) -> None:
    file.write_text(
        f"""
        [node]
        data = "{tmp_path}"
        log = "json"
        log_level = "debug"
        [cluster]
        listen = "[::1]:0"
        mdns = false
        advertise = "http://me.test:5051"
        secret_file = "/run/secret"
        open_gateway = true
        [facade]
        insecure = true
        credentials = "/etc/config.json"
        """
    )
    configuration = load({}, {}, file)
    assert configuration.node.data == tmp_path
    assert (configuration.node.log, configuration.node.log_level) == ("json", "debug")
    assert (configuration.cluster.listen.address.host, configuration.cluster.listen.address.port) == ("::1", 0)
    assert configuration.cluster.secret_file == Path("/run/secret")
    assert configuration.cluster.open_gateway
    assert configuration.facade.insecure


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[facde]", "section [facde] is not known; did you mean facade?"),
        ("facade = 1", "facade = 1: a section [facade] is expected"),
        ("[facade]\nlissen = 'x'", "[facade] lissen is not known; did you mean listen?"),
        ("[facade]\njoin = []", "[facade] join is not known; did you mean [cluster] join?"),
        (
            "[node]\nzzz = 1",
            "[node] zzz is not known; known are data, name, ipfs, ipfs_auth_file, ipfs_ca_file,"
            " ipfs_gateway, gateways, log, log_level",
        ),
        ("[facade]\nlisten = 5050", "[facade] listen = 5050: text is expected"),
        ("[facade]\nlisten = 'localhost'", "[facade] listen = 'localhost': HOST:PORT is expected"),
        ("[facade]\ndocker_mirror = true", "[facade] docker_mirror = true: text is expected, or off"),
        ("[cluster]\nmdns = 'yes'", "[cluster] mdns = 'yes': true or false is expected"),
        ("[cluster]\njoin = 'http://a'", "[cluster] join = 'http://a': a list of texts is expected"),
        (
            "[node]\nipfs_gateway = 'http://kubo..local:8080'",
            "[node] ipfs_gateway = 'http://kubo..local:8080': http://HOST:PORT or https://HOST[:PORT] is expected",
        ),
        ("[cluster]\njoin = ['a']", "[cluster] join = ['a']: http://HOST:PORT or https://HOST[:PORT] is expected"),
        ("[cluster]\nmdns_interface = ['eth0']", "['eth0']: an IPv4 address of this machine is expected"),
        ("[node]\nlog = 'xml'", "[node] log = 'xml': text or json is expected"),
        ("[node]\nname = 'a b'", "[node] name = 'a b': 1 to 63 letters, digits and . _ - are expected"),
        ("[node]\ndata = ''", "[node] data = '': a path is expected"),
        ("[facade]\nupstreams = 1", '[facade] upstreams = 1: a table [facade.upstreams."NAMESPACE"] is expected'),
        ("[facade.upstreams]\n'a.b' = 1", '"a.b" = 1: a table [facade.upstreams."a.b"] is expected'),
        ("[facade.upstreams.'a.b']\nendpiont = 'x'", '"a.b" endpiont is not known; did you mean endpoint?'),
        (
            "[facade.upstreams.'a.b']\nendpoint = []",
            "endpoint = []: http://HOST:PORT or https://HOST[:PORT] is expected",
        ),
        ("[facade.upstreams.'a.b']\nendpoint = ['x']", "endpoint = 'x': http://HOST:PORT or https://HOST[:PORT] is"),
        (
            "[facade.upstreams.'a.b']\ntags = 'pinned'",
            """tags = 'pinned': a table is expected, such as {"v*" = "pinned"}""",
        ),
        (
            "[facade.upstreams.'a.b'.tags]\n'v*' = 'ttl'",
            """tags "v*" = 'ttl': upstream, ttl=TIME (such as ttl=5m), stale""",
        ),
        ("[facade.upstreams.'a.b'.tags]\n'v*' = 5", """tags "v*" = 5: text is expected"""),
        ("[facade.upstreams.'a.b']\npublic = 'x'", "public = 'x': true or false is expected"),
        ("[facade.upstreams.'a.b']\naccess = 'x'", "access = 'x': refuse or credentials or passthrough is expected"),
        ("[facade.upstreams.'a.b']\nshare = 'members'", "share = 'members': cluster is expected"),
        ("[cluster]\ntls = 'yes'", "[cluster] tls = 'yes': true or false is expected"),
        ("[facade", "this is not TOML: "),
    ],
)
def test_a_wrong_file_is_refused_by_name(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    line = refusal(file=file)
    assert line.startswith(f"{file}: ")
    assert message in line


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    assert refusal(file=missing) == f"{missing}: the configuration file cannot be read: no such file or directory"


def test_a_file_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert refusal(file=tmp_path / "fifo").endswith("fifo: the configuration file is no regular file")


def test_a_file_in_another_encoding_is_refused(file: Path) -> None:
    file.write_bytes("[node]\nname = 'ü'".encode("latin-1"))
    assert "it is not UTF-8 text" in refusal(file=file)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("LAYERMESH_FACADE_LISEN", "x", "LAYERMESH_FACADE_LISEN is not known; did you mean LAYERMESH_FACADE_LISTEN?"),
        ("LAYERMESH_FACADE_LISTEN", "x", "LAYERMESH_FACADE_LISTEN = 'x': HOST:PORT is expected"),
        ("LAYERMESH_CLUSTER_MDNS", "yes", "LAYERMESH_CLUSTER_MDNS = 'yes': true or false is expected"),
        ("LAYERMESH_FACADE_UPSTREAMS", "a.b", "LAYERMESH_FACADE_UPSTREAMS = 'a.b': NAMESPACE=URL is expected"),
        ("LAYERMESH_FACADE_UPSTREAMS", "a.b=c", "a.b = 'c': http://HOST:PORT or https://HOST[:PORT] is expected"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(variable: str, value: str, message: str) -> None:
    assert message in refusal(environment={variable: value})


@pytest.mark.parametrize(
    "variable", ["LAYERMESH_PORT", "LAYERMESH_SERVICE_HOST", "LAYERMESH_FACADE_PORT_5050_TCP_ADDR", "PATH"]
)
def test_variables_that_are_not_meant_for_us_are_left_alone(variable: str) -> None:
    assert load({}, {variable: "tcp://10.0.0.1:5050"}) == Configuration()


def test_an_empty_variable_says_nothing() -> None:
    assert load({}, {"LAYERMESH_FACADE_LISTEN": ""}) == Configuration()


def test_a_wrong_flag_is_refused_by_name() -> None:
    assert "--facade = 'x:y': HOST:PORT is expected" in refusal(flags={"facade_listen": "x:y"})


@pytest.mark.parametrize(
    "text",
    ["", ":1", "a:", "a:b", "a:65536", "::1:5050", "[::1]", "[x]:1", "a b:1", "a:\u0661", "[127.0.0.1]:1"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    assert "HOST:PORT is expected" in refusal(flags={"admin_listen": text})


def test_data_goes_where_the_machine_keeps_state() -> None:
    assert default_data({"XDG_STATE_HOME": "/state"}, root=True) == Path("/state/layermesh")
    assert default_data({"HOME": "/home/me"}, root=True) == Path("/var/lib/layermesh")
    assert default_data({"HOME": "/home/me"}, root=False) == Path("/home/me/.local/state/layermesh")


def test_the_default_name_is_a_name() -> None:
    assert load({"node_name": default_name()}, {}).node.name == default_name()
