"""Upstreams as operators write them, and those that are built in."""

import pytest
from yarl import URL

from facade.upstream.config import BUILT_IN, UpstreamConfig
from node.errors import InvalidError


def test_the_built_in_upstreams_are_public_and_https() -> None:
    assert {config.namespace for config in BUILT_IN} >= {"docker.io", "ghcr.io", "quay.io", "registry.k8s.io"}
    assert all(config.public for config in BUILT_IN)
    assert all(url.scheme == "https" for config in BUILT_IN for url in config.urls)


def test_plain_http_and_a_path_are_kept_as_written() -> None:
    config = UpstreamConfig.parse("Corp.test", "http://127.0.0.1:5000/mirror/")
    assert (config.namespace, config.urls) == ("corp.test", (URL("http://127.0.0.1:5000/mirror"),))
    assert not config.public


@pytest.mark.parametrize(
    ("namespace", "endpoint"),
    [
        ("corp.test", "corp.test"),
        ("corp.test", "ftp://corp.test"),
        ("corp.test", "https://"),
        ("corp.test", "https://corp.test:99999"),
        ("corp.test", "https://corp.test/?a=b"),
        ("corp.test", "https://me:secret@corp.test"),
        ("corp test", "https://corp.test"),
        ("../etc", "https://corp.test"),
        ("Local", "https://corp.test"),  # own repositories are of that name, and shared with members
    ],
)
def test_a_malformed_upstream_is_refused_without_showing_a_password(namespace: str, endpoint: str) -> None:
    with pytest.raises(InvalidError) as caught:
        UpstreamConfig.parse(namespace, endpoint)
    assert "secret" not in str(caught.value)
