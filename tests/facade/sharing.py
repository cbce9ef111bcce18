"""Members that share what one of them fetched with a login: the registry, the nodes, and what is asked of them."""

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

from yarl import URL

from facade.registry.client_logins import ClientLogins
from facade.registry.gate import Gate
from facade.upstream.config import Access, Share, UpstreamConfig
from facade.upstream.credentials import NO_CREDENTIALS, Credentials, Login
from node.reference import Repository
from tests.facade.logins import basic, get
from tests.facade.machine import Machine, machine, until
from tests.fakes.images import Blob, FakeImage
from tests.fakes.peer import FakePeer
from tests.fakes.registry import FakeRegistry

SECRET = b"a secret of the whole cluster"
NAME, REPOSITORY = "corp.test/team/secret", Repository("corp.test", "team/secret")
ALICE, MALLORY = basic("alice"), basic("mallory", "guess")
CREDENTIALS, PASSTHROUGH = Access.CREDENTIALS, Access.PASSTHROUGH


def member(
    folder: Path,
    registry: FakeRegistry,
    corporate: FakeRegistry,
    *joins: Machine | FakePeer,
    access: Access = CREDENTIALS,
    share: Share | None = Share.CLUSTER,
    login: bool = True,
    at: str = "",
) -> AbstractAsyncContextManager[Machine]:
    """A node over TLS, with or without a login for the registry; started anew `at` the mesh address it had."""
    upstreams = (
        UpstreamConfig.parse("docker.io", registry.url, public=True),
        replace(UpstreamConfig.parse("corp.test", corporate.url, access=access), share=share),
    )
    return machine(
        folder,
        registry,
        upstreams=upstreams,
        credentials=Credentials({(corporate.address, ""): Login("node", "secret")}) if login else NO_CREDENTIALS,
        gate=Gate(clients=ClientLogins()) if access is PASSTHROUGH else None,
        secret=SECRET,
        joins=tuple(str(one.url) if isinstance(one, FakePeer) else one.mesh for one in joins),
        mesh_tls=True,
        mesh_port=URL(at).port or 0 if at else 0,
    )


def blobs_of(image: FakeImage) -> tuple[Blob, ...]:
    return (image.manifest, *image.blobs)


async def told(node: Machine, image: FakeImage, repository: Repository = REPOSITORY) -> None:
    """Wait until a node knows of a member that has all of it."""
    await until(lambda: all(node.cluster.holders(each.digest, (repository,)) for each in blobs_of(image)))


async def met(node: Machine, count: int = 1) -> None:
    await until(lambda: sum(peer.member for peer in node.cluster.peers()) == count)


async def refusals(node: Machine, image: FakeImage, login: str | None = None) -> set[int]:
    """How all of it is answered; no answer holds any of it."""
    statuses = set()
    for selector in ("manifests/v1", *(f"manifests/{image.manifest.digest}",), *_blob_paths(image)):
        for path in (f"/v2/{NAME}/{selector}", f"/v2/team/secret/{selector}?ns=corp.test"):
            answer = await get(node, path, login)
            assert not any(each.data in answer.data for each in blobs_of(image))
            statuses.add(answer.status)
    return statuses


def _blob_paths(image: FakeImage) -> tuple[str, ...]:
    return tuple(f"blobs/{blob.digest}" for blob in image.blobs)
