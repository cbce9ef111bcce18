"""The servers that are compared, each a context manager: ours, docker-registry, distribution v3, nginx, bare aiohttp.

Access logs are off everywhere. Everything else is as it is shipped, unless a comment gives the reason.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import free_port, running, wait_listening, wait_ready
from tests.bench.rows import MissingToolError

DISTRIBUTION = "distribution v3.1.2"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "layermesh-bench"
NAMESPACE = "docker.io"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and where it listens."""

    port: int
    process: "subprocess.Popen[bytes]"
    admin: int = 0
    mesh: int = 0


@contextmanager
def docker_registry(storage: Path, work: Path, *, namespace: str | None = None) -> Iterator[Server]:
    """Debian's docker-registry over a storage folder, with its default cache of blob descriptors in memory."""
    binary = _find("docker-registry", "apt-get install docker-registry")
    with _registry(binary, storage, work / "docker-registry", namespace) as server:
        yield server


@contextmanager
def pull_through_cache(upstream: str, work: Path, *, namespace: str | None = None) -> Iterator[Server]:
    """Distribution v3 as a pull-through cache of `upstream`, with an empty store."""
    proxy = f"proxy:\n  remoteurl: {upstream}\n"
    with _registry(_distribution(), work / "cache-store", work / "cache", namespace, proxy) as server:
        yield server


@contextmanager
def distribution(storage: Path, work: Path) -> Iterator[Server]:
    """Distribution v3 as a registry of its own over a storage folder."""
    with _registry(_distribution(), storage, work / "v3-registry", None) as server:
        yield server


def _distribution() -> str:
    binary = CACHE / "bin" / "registry"
    if not binary.exists():
        package = "github.com/distribution/distribution/v3/cmd/registry@v3.1.2"
        folder = "${XDG_CACHE_HOME:-$HOME/.cache}/layermesh-bench/bin"
        raise MissingToolError(DISTRIBUTION, f'GOBIN="{folder}" go install {package}')
    return str(binary)


@contextmanager
def _registry(binary: str, storage: Path, name: Path, namespace: str | None, more: str = "") -> Iterator[Server]:
    port = free_port()
    config, log = name.with_suffix(f".{port}.yml"), name.with_suffix(f".{port}.log")
    config.write_text(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n"
        f"storage:\n  cache:\n    blobdescriptor: inmemory\n  delete:\n    enabled: true\n"
        f"  filesystem:\n    rootdirectory: {storage}\nhttp:\n  addr: 127.0.0.1:{port}\n{more}"
    )
    # v3 would send traces to a collector on loopback that is not there.
    quiet = {"OTEL_TRACES_EXPORTER": "none"}
    with running([binary, "serve", str(config)], log, namespace=namespace, extra_env=quiet) as process:
        wait_listening(process, port, log)
        yield Server(port, process)


@contextmanager
def nginx(root: Path, work: Path, *, host: str = "127.0.0.1", namespace: str | None = None) -> Iterator[Server]:
    """Debian's nginx serving a folder by sendfile, with Debian's settings for workers, sendfile and tcp_nopush."""
    binary = _find("nginx", "apt-get install nginx-light")
    port = free_port()
    config, log = work / "nginx.conf", work / "nginx.log"
    config.write_text(
        f"daemon off;\npid {work}/nginx.pid;\nerror_log stderr;\nworker_processes auto;\n"
        + ("user root;\n" if os.geteuid() == 0 else "")
        + "events { worker_connections 768; }\n"
        "http {\n  sendfile on;\n  tcp_nopush on;\n  access_log off;\n"
        f"  server {{ listen {host}:{port}; root {root}; }}\n}}\n"
    )
    with running([binary, "-p", str(work), "-c", str(config)], log, namespace=namespace) as process:
        wait_listening(process, port, log)
        yield Server(port, process)


@contextmanager
def bare_aiohttp(data: Path, media_type: str, file: Path, work: Path) -> Iterator[Server]:
    """`tests.bench.bare` in a process of its own."""
    port, log = free_port(), work / "bare.log"
    options = ["--port", str(port), "--bytes", str(data), "--type", media_type, "--file", str(file)]
    with running([sys.executable, "-m", "tests.bench.bare", *options], log) as process:
        wait_ready(process, port, "/bytes", log)
        yield Server(port, process)


@contextmanager
def bare_proxy(upstream: str, work: Path) -> Iterator[Server]:
    """`tests.bench.bare_proxy` in a process of its own."""
    port, log = free_port(), work / "bare-proxy.log"
    options = ["--port", str(port), "--upstream", upstream]
    with running([sys.executable, "-m", "tests.bench.bare_proxy", *options], log) as process:
        wait_listening(process, port, log)
        yield Server(port, process)


def node_command(
    data: Path, ports: tuple[int, int, int], more: Sequence[str] = (), mesh_host: str = "127.0.0.1"
) -> list[str]:
    """`layermesh up` with facade and admin listeners on loopback, the mesh on `mesh_host`, and no docker mirror."""
    facade, mesh, admin = f"127.0.0.1:{ports[0]}", f"{mesh_host}:{ports[1]}", f"127.0.0.1:{ports[2]}"
    listeners = ["--facade", facade, "--docker-mirror", "off", "--mesh", mesh, "--admin", admin]
    return [str(Path(sys.executable).with_name("layermesh")), "up", "--data", str(data), *listeners, *more]


@contextmanager
def layermesh(
    data: Path,
    work: Path,
    *,
    upstream: str | None = None,
    namespace: str | None = None,
    mesh_host: str = "127.0.0.1",
    more: Sequence[str] = (),
) -> Iterator[Server]:
    """A node that looks for no neighbours, with `docker.io` at `upstream`; its listeners are bound when this yields."""
    facade, mesh, admin = free_port(), free_port(), free_port()
    flags = ["--no-mdns", *(["--upstream", f"{NAMESPACE}={upstream}"] if upstream else []), *more]
    log = work / f"layermesh.{facade}.log"
    with running(node_command(data, (facade, mesh, admin), flags, mesh_host), log, namespace=namespace) as process:
        for port in (facade, mesh, admin):
            wait_listening(process, port, log)
        yield Server(facade, process, admin=admin, mesh=mesh)


def through(target: str) -> str:
    """A request target as containerd sends it to a mirror of the upstream's namespace."""
    return f"{target}?ns={NAMESPACE}"


def _find(name: str, provides: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise MissingToolError(name, provides)
    return found
