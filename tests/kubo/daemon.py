"""A real Kubo for the tests: on loopback, private, found by nobody and looking for nobody."""

import contextlib
import http.client
import json
import os
import random
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import pytest
from yarl import URL

BUILT: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "layermesh-kubo" / "bin" / "ipfs"
_STARTS_WITHIN_S: Final = 30.0
_TICK_S: Final = 0.02
_QUIET: Final[Mapping[str, Any]] = {
    "Bootstrap": [],
    "Routing": {"Type": "none"},
    "Provide": {"Enabled": False},
    "AutoConf": {"Enabled": False},
    "AutoTLS": {"Enabled": False},
    "Discovery": {"MDNS": {"Enabled": False}},
    "Swarm": {
        "DisableNatPortMap": True,
        "RelayClient": {"Enabled": False},
        "RelayService": {"Enabled": False},
        "EnableHolePunching": False,
    },
    "Plugins": {"Plugins": {"telemetry": {"Config": {"Mode": "off"}}}},
}


def built_kubo() -> str:
    """Where Kubo is; the test is skipped where it was not built."""
    if not BUILT.exists():
        pytest.skip("Kubo is not built: install Go 1.26 or newer and run `make kubo`")
    return str(BUILT)


def kubo_environment(repo: Path) -> dict[str, str]:
    """What Kubo's programs are started with: a repository, and nothing of the person who runs the tests."""
    home = {"PATH": os.defpath, "HOME": str(repo), "IPFS_PATH": str(repo)}
    return home | {"IPFS_TELEMETRY": "off", "LIBP2P_TCP_MUX": "false"}


def lay_repository(
    repo: Path, *, swarm: str, api: str, gateway: str, swarm_key: str | None = None, settings: Mapping[str, Any]
) -> None:
    """Make a repository in which Kubo listens at these multiaddrs. `settings` replace whole tables of the rest."""
    init = [built_kubo(), "init", "--empty-repo", "--profile=autoconf-off,unixfs-v1-2025"]
    subprocess.run(init, env=kubo_environment(repo), check=True, capture_output=True, timeout=60)
    path = repo / "config"
    config = json.loads(path.read_text())
    listening = {"Swarm": [swarm], "API": api, "Gateway": gateway, "Announce": [], "AppendAnnounce": []}
    path.write_text(json.dumps(config | _QUIET | {"Addresses": listening | {"NoAnnounce": []}} | settings))
    if swarm_key is not None:
        (repo / "swarm.key").write_text(swarm_key)


@dataclass
class Kubo:
    """A daemon on loopback. It can be stopped, killed and started again on the same repository."""

    repo: Path
    rpc: URL
    gateway: URL
    swarm: str
    """The multiaddr that it listens at for others, without its peer id."""
    authorization: str | None = None
    """The header that its RPC asks for."""
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def start(self) -> None:
        """Start it, and return when its RPC answers."""
        command = [built_kubo(), "daemon", "--migrate=false"]
        with (self.repo / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=kubo_environment(self.repo), stdout=log, stderr=log)
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not self._answers():
            said = (self.repo / "daemon.log").read_text()[-2000:]
            assert self.process.poll() is None, f"Kubo ended:\n{said}"
            assert time.monotonic() < deadline, f"Kubo does not answer:\n{said}"
            time.sleep(_TICK_S)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that takes too long."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=15)
        self.process = None

    @property
    def peer_id(self) -> str:
        """Its identity in the swarm."""
        return str(self.call("id")["ID"])

    def call(self, command: str, *arguments: str, **options: str) -> Any:
        """The first JSON document that a command of the RPC answers; None where it answers nothing.

        Raises:
            AssertionError: with what it says, when it is not 200.
        """
        status, body = self.ask(command, *arguments, **options)
        assert status == 200, f"{command}: {status} {body.decode(errors='replace')[:500]}"
        lines = body.splitlines()
        return json.loads(lines[0]) if lines else None

    def ask(self, command: str, *arguments: str, **options: str) -> tuple[int, bytes]:
        """Status and body of a command, as they are; an option's `_` stands for `-`."""
        words = [("arg", argument) for argument in arguments]
        words += [(name.replace("_", "-"), value) for name, value in options.items()]
        target = f"/api/v0/{command}?{urlencode(words, quote_via=quote)}"
        headers = {"Authorization": self.authorization} if self.authorization else {}
        with contextlib.closing(_connection(self.rpc)) as connection:
            connection.request("POST", target, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def meet(self, other: "Kubo") -> None:
        """Connect it to another one."""
        self.call("swarm/connect", f"{other.swarm}/p2p/{other.peer_id}")

    def by_hand(self, *command: str) -> bytes:
        """What the `ipfs` command prints that an operator types."""
        return subprocess.run(
            [built_kubo(), *command], env=kubo_environment(self.repo), check=True, capture_output=True, timeout=60
        ).stdout

    def move(self, repo: Path) -> None:
        """Have a new repository, and so another identity, at the same addresses from the next start on."""
        at = json.loads((self.repo / "config").read_text())["Addresses"]
        repo.mkdir()
        lay_repository(repo, swarm=at["Swarm"][0], api=at["API"], gateway=at["Gateway"], settings={})
        self.repo = repo

    def _answers(self) -> bool:
        try:
            return self.ask("id")[0] in (200, 403)
        except OSError:
            return False


def _connection(rpc: URL) -> http.client.HTTPConnection:
    if rpc.scheme != "unix":
        return http.client.HTTPConnection(rpc.host or "", rpc.port or 0, timeout=60)
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(60)
    try:
        connection.sock.connect(rpc.path)
    except OSError:
        connection.sock.close()
        raise
    return connection


@contextlib.contextmanager
def running_kubo(
    repo: Path,
    *,
    swarm_key: str | None = None,
    authorization: str | None = None,
    unix: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Kubo]:
    """A daemon that is gone afterwards; its RPC is on a unix socket in `repo` with `unix`.

    `authorization` is what only its clients know, in Kubo's own form: `bearer:TOKEN` or `basic:USER:PASSWORD`.
    """
    repo.mkdir(parents=True, exist_ok=True)
    swarm, api, gateway = _free_ports(3)
    listening = f"/unix{repo}/api.sock" if unix else f"/ip4/127.0.0.1/tcp/{api}"
    more: dict[str, Any] = dict(settings or {})
    header = None
    if authorization is not None:
        more["API"] = {"Authorizations": {"tests": {"AuthSecret": authorization, "AllowedPaths": ["/api/v0"]}}}
        header = _header(authorization)
    address = f"/ip4/127.0.0.1/tcp/{swarm}"
    at = f"/ip4/127.0.0.1/tcp/{gateway}"
    lay_repository(repo, swarm=address, api=listening, gateway=at, swarm_key=swarm_key, settings=more)
    rpc = URL.build(scheme="unix", path=f"{repo}/api.sock") if unix else URL(f"http://127.0.0.1:{api}")
    kubo = Kubo(repo, rpc, URL(f"http://127.0.0.1:{gateway}"), address, header)
    try:
        kubo.start()
        yield kubo
    finally:
        kubo.stop()


def _header(secret: str) -> str:
    import base64

    kind, _, rest = secret.partition(":")
    return f"Bearer {rest}" if kind == "bearer" else f"Basic {base64.b64encode(rest.encode()).decode()}"


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that the kernel gives to connections by itself."""
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no port is free")
