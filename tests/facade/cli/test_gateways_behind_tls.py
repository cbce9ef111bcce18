"""`--gateway https://...`: gateways are believed by the system's authorities, and by no others."""

import asyncio
import ssl
import urllib.request
from pathlib import Path

from tests.facade.cli.started import Started, run, started
from tests.fakes.certificates import AUTHORITY, write_certificate
from tests.fakes.gateway import FakeGateway, fake_gateway
from tests.fakes.images import make_image
from tests.fakes.peer import dag_of
from tests.fakes.registry import FakeRegistry
from tests.node.contents import MIB, content

DATA = content(2 * MIB + 9, "behind tls")
ROOT = str(dag_of(DATA).root)
IMAGE = make_image("behind tls", (500_000,))


def pulled(node: Started) -> str | None:
    """Pull the layer as a runtime does; where it came from."""
    repository = f"http://{node.address('facade')}/v2/docker.io/library/app"
    with urllib.request.urlopen(f"{repository}/manifests/v1", timeout=20) as answer:
        assert answer.read() == IMAGE.manifest.data
    with urllib.request.urlopen(f"{repository}/blobs/{IMAGE.layers[0].digest}", timeout=20) as answer:
        assert answer.read() == IMAGE.layers[0].data
        return str(answer.headers["Layermesh-Source"])


def ask_both(home: Path, registry: str, gateway: str, authority: Path) -> None:
    flags = ("--upstream", f"docker.io={registry}", "--gateway", gateway)
    with started(home, home / "a", *flags, variables={"SSL_CERT_FILE": str(authority)}) as believing:
        assert believing.ask("ipfs", "cat", ROOT)["bytes"] == len(DATA)
        assert pulled(believing) == "ipfs"
    with started(home, home / "b", *flags) as node:
        assert pulled(node) == "upstream"
        done = run("ipfs", "cat", ROOT, "--admin", node.address("admin"), home=home)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        told = [each for each in node.ask("status")["warnings"] if gateway.rstrip("/") in each]
        assert len(told) == 1 and "certificate" in told[0], told


async def test_a_gateway_behind_tls_gives_blobs_to_those_who_know_its_authority(tmp_path: Path) -> None:
    files = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    AUTHORITY.cert_pem.write_to_path(tmp_path / "authority.crt")
    gateway = FakeGateway()
    gateway.hold(DATA)
    gateway.hold(IMAGE.layers[0].data)
    async with FakeRegistry() as registry, fake_gateway(gateway, context):
        registry.push("library/app", IMAGE, "v1")
        await asyncio.to_thread(ask_both, tmp_path, registry.url, str(gateway.url), tmp_path / "authority.crt")
