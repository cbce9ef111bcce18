"""The compose set-up as it is in the repository: built, started, and pulled through."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.e2e.engine import BASE_TAR, Engine, open_engine
from tests.e2e.library import Library, pulled
from tests.e2e.mesh import sample
from tests.e2e.needs import skip_without
from tests.e2e.network import Network
from tests.e2e.process import wait_until
from tests.e2e.registry import Registry
from tests.e2e.runtimes.containers import Skopeo
from tests.e2e.runtimes.runtime import Mirrors, assert_unpacked, pull

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ADMIN = {"one": "http://127.0.0.1:5052", "two": "http://127.0.0.1:5062", "three": "http://127.0.0.1:5072"}


@pytest.fixture
def engine(network: Network) -> Iterator[Engine]:
    """A Docker engine on a machine of its own, with the image that stands in for Python's."""
    skip_without("docker-compose")
    if not BASE_TAR.exists():
        pytest.skip("the base image for the compose test is not built: run `make provision` as root (Debian)")
    with open_engine(network.host("compose")) as engine:
        engine.import_base()
        yield engine


def test_three_nodes_of_the_compose_file_share_what_one_has_pulled(
    engine: Engine, registry: Registry, library: Library
) -> None:
    environment = {"LAYERMESH_FACADE_UPSTREAMS": f"docker.io={registry.url}"}
    node = {"build": {"args": {"BASE": "base"}}, "environment": environment}
    engine.additions.write_text(json.dumps({"version": "3.8", "services": dict.fromkeys(ADMIN, node)}))
    engine.compose("build", within_s=120)
    engine.compose("up", "--detach")
    wait_until(lambda: _all_met(engine), "each of the three nodes sees the other two", within_s=30)

    pull(Skopeo.start(engine.host, Mirrors("127.0.0.1:5050")), "docker.io/library/small:1")
    registry.stop()
    named = f"docker.io/library/small@{library.small.manifest.digest}"
    runtime = Skopeo.start(replace(engine.host, folder=engine.folder), Mirrors("127.0.0.1:5060"))
    pull(runtime, named)

    assert_unpacked(runtime, named, library.small.images[0])
    whole = sum(blob.size for blob in pulled(library.small, library.small.images[0]))
    assert sample(engine.host, ADMIN["two"], "layermesh_fetched_bytes_total", source="peer") == whole


def _all_met(engine: Engine) -> bool:
    return all(
        engine.host.answers(f"{admin}/readyz") and sample(engine.host, admin, "layermesh_peers", state="alive") == 2
        for admin in ADMIN.values()
    )
