"""What every end-to-end test stands on: a network of its own, an upstream registry, and images made from a seed."""

import secrets
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.e2e import unskipped
from tests.e2e.library import Library, fill_library
from tests.e2e.mesh import Node, start_nodes
from tests.e2e.needs import skip_without
from tests.e2e.network import Network, open_network
from tests.e2e.registry import Registry

_LOG_CHARACTERS = 6000


def pytest_configure(config: pytest.Config) -> None:
    """Where skipping is off, it is off for the whole run, not for this folder alone."""
    if not config.pluginmanager.has_plugin("unskipped"):
        config.pluginmanager.register(unskipped, "unskipped")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what every program said when a test fails."""
    report = yield
    network = getattr(item, "funcargs", {}).get("network")
    if report.failed and report.when != "teardown" and isinstance(network, Network):
        for process in network.processes:
            report.sections.append((process.name, process.output(_LOG_CHARACTERS)))
    return report


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, as names of sockets have at most 107 bytes.

    Its name is also a name of a repository, which a random one of `tempfile` is not always: Podman takes it for one.
    """
    path = Path(tempfile.gettempdir()) / f"layermesh-{secrets.token_hex(4)}"
    path.mkdir(mode=0o700)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def network(folder: Path) -> Iterator[Network]:
    """A network with nobody on it yet; a node that has logged a traceback by the end fails the test."""
    skip_without()
    with open_network(folder) as network:
        yield network
        for process in network.processes:
            if process.name.endswith("-layermesh"):
                assert "Traceback" not in process.output(), process.output(_LOG_CHARACTERS)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """The images, pushed once into a registry's storage that every test's registry then serves."""
    skip_without()
    return fill_library(tmp_path_factory.mktemp("library"))


@pytest.fixture
def registry(network: Network, library: Library) -> Registry:
    """An upstream registry that holds the library."""
    return Registry.start(network.host("registry"), library.storage)


@pytest.fixture
def secret(folder: Path) -> str:
    """A file with a cluster secret."""
    path = folder / "secret"
    path.write_text("correct horse battery staple 0123456789\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def members(network: Network, registry: Registry, secret: str) -> tuple[Node, Node]:
    """Two members of one cluster that have met."""
    first, second = start_nodes(network, registry, "ab", "--secret-file", secret)
    return first, second
