"""Where a registry may send us, and where not."""

import pytest
from yarl import URL

from facade.upstream.addresses import is_local_address, is_local_host, same_owner
from facade.upstream.redirects import check_realm, next_hop
from node.errors import DeniedError, UnreachableError

ENDPOINT = URL("https://registry.test")


@pytest.mark.parametrize(
    ("endpoint", "realm"),
    [
        ("https://registry-1.docker.io", "https://auth.docker.io/token"),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth"),
        ("https://ghcr.io", "https://ghcr.io/token"),
        ("https://a.corp.co.uk", "https://b.corp.co.uk/token"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token"),
        ("http://corp.test", "https://auth.corp.test/token"),
    ],
)
def test_a_realm_of_the_same_owner_is_accepted(endpoint: str, realm: str) -> None:
    assert check_realm(URL(endpoint), realm) == URL(realm)


@pytest.mark.parametrize(
    ("endpoint", "realm"),
    [
        ("https://registry-1.docker.io", "https://auth.docker.io.evil.test/token"),
        ("https://registry-1.docker.io", "https://evil.io/token"),
        ("https://registry-1.docker.io", "http://auth.docker.io/token"),
        ("https://one.co.uk", "https://other.co.uk/token"),
        ("https://mine.azurecr.io", "https://evil.azurecr.io/token"),
        ("https://registry.test", "https://169.254.169.254/latest"),
        ("https://10.0.0.1", "https://10.0.0.2/token"),
        ("https://localhost", "https://other/token"),
        ("https://registry.test", "https://user:secret@registry.test/token"),
        ("https://registry.test", "file:///etc/passwd"),
        ("https://registry.test", "/token"),
        ("https://registry.test", ""),
        ("https://registry.test", "https://["),
    ],
)
def test_a_realm_of_somebody_else_is_refused(endpoint: str, realm: str) -> None:
    with pytest.raises(DeniedError, match="names the token realm"):
        check_realm(URL(endpoint), realm)


def test_a_signed_location_is_followed_to_the_letter() -> None:
    location = "https://cdn.test/a%2Fb?sig=%7Ex%2F+y%3d&n=%C3%A9#part"
    target = next_hop(ENDPOINT, location, ENDPOINT, endpoint_is_local=False)
    assert target.raw_path_qs == "/a%2Fb?sig=%7Ex%2F+y%3d&n=%C3%A9"


def test_a_relative_location_stays_on_its_host() -> None:
    target = next_hop(URL("https://cdn.test/v2/x"), "/y?z=%2f", ENDPOINT, endpoint_is_local=False)
    assert str(target) == "https://cdn.test/y?z=%2f"


@pytest.mark.parametrize(
    "location",
    [
        None,
        "",
        "http://cdn.test/x",
        "ftp://cdn.test/x",
        "https://user@cdn.test/x",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://[::ffff:10.0.0.1]/x",
        "https://169.254.169.254/latest/meta-data",
        "https://localhost/x",
        "https://[",
        "https://host:99999/x",
    ],
)
def test_a_redirect_that_must_not_be_followed_is_refused(location: str | None) -> None:
    with pytest.raises(UnreachableError):
        next_hop(ENDPOINT, location, ENDPOINT, endpoint_is_local=False)


def test_a_private_registry_may_redirect_within_the_private_network() -> None:
    endpoint = URL("http://10.0.0.1:5000")
    assert next_hop(endpoint, "http://10.0.0.2/x", endpoint, endpoint_is_local=True) == URL("http://10.0.0.2/x")


@pytest.mark.parametrize(
    "text", ["10.1.2.3", "100.64.0.1", "0.0.0.0", "224.0.0.1", "fe80::1%eth0", "fd00::1", "64:ff9b::a00:1", "::"]
)
def test_addresses_of_no_public_network_are_known(text: str) -> None:
    assert is_local_address(text)


def test_public_addresses_and_names_are_not_local() -> None:
    assert not any(is_local_host(text) for text in ("1.1.1.1", "2606:4700::1111", "example.com", "64:ff9b::101:101"))
    assert is_local_host("a.LOCALHOST.")


def test_hosts_of_one_label_own_only_themselves() -> None:
    assert same_owner("registry", "REGISTRY.")
    assert not same_owner("registry", "auth")
