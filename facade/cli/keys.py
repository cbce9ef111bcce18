"""Every setting once: its place in the file, its environment variable, its flag, and what it is for."""

from dataclasses import dataclass
from typing import Final

PREFIX: Final = "LAYERMESH_"
CONFIG_VARIABLE: Final = "LAYERMESH_CONFIG"


@dataclass(frozen=True, slots=True)
class Key:
    """One setting. `flag` is None where only the file and the environment have it."""

    section: str
    name: str
    flag: str | None
    metavar: str
    text: str
    repeatable: bool = False
    on: str | None = None
    """What `on` stands for."""
    off_flag: bool = False
    """The flag says `false` (`--no-mdns`)."""

    @property
    def variable(self) -> str:
        """`LAYERMESH_SECTION_KEY`; the section `node` is the process itself and left out."""
        words = (self.name,) if self.section == "node" else (self.section, self.name)
        return PREFIX + "_".join(words).upper()

    @property
    def place(self) -> str:
        """How the file has it."""
        return f"[{self.section}] {self.name}"

    @property
    def parameter(self) -> str:
        """The name of the flag's value inside the program."""
        return f"{self.section}_{self.name}"

    @property
    def switch(self) -> bool:
        """Whether the flag takes no value."""
        return not self.metavar


KEYS: Final = (
    Key("node", "data", "--data", "DIR", "folder that holds the blobs and tables"),
    Key("node", "name", "--name", "NAME", "what people call this node [default: the host name]"),
    Key("facade", "listen", "--facade", "HOST:PORT", "where runtimes pull"),
    Key("facade", "docker_mirror", "--docker-mirror", "HOST:PORT|off", "where dockerd pulls docker.io"),
    Key(
        "facade",
        "kubo_sidecar",
        "--kubo-sidecar",
        "HOST:PORT|on|off",
        "where this machine's Kubo finds and reads public blobs; on is 127.0.0.1:5054 [default: off]",
        on="127.0.0.1:5054",
    ),
    Key("cluster", "listen", "--mesh", "HOST:PORT", "where peers and IPFS tools read"),
    Key("admin", "listen", "--admin", "HOST:PORT", "status, health and metrics"),
    Key("cluster", "join", "--join", "URL", "another node's mesh address", repeatable=True),
    Key("cluster", "mdns", "--no-mdns", "", "do not look for peers on the local network", off_flag=True),
    Key(
        "cluster",
        "mdns_interface",
        "--mdns-interface",
        "IP",
        "look for peers on this address's network only",
        repeatable=True,
    ),
    Key("cluster", "advertise", "--advertise", "URL", "how other nodes reach this one's mesh listener"),
    Key("cluster", "secret_file", "--secret-file", "FILE", "file with the secret that the members share"),
    Key(
        "facade",
        "upstreams",
        "--upstream",
        "NAMESPACE=URL",
        "a registry and its endpoint; again for a further one",
        repeatable=True,
    ),
    Key(
        "node",
        "ipfs",
        "--ipfs",
        "embedded|kubo=URL|ipfshttpclient=URL",
        "the IPFS network: this node alone, or a Kubo by its RPC",
    ),
    Key("node", "ipfs_auth_file", None, "FILE", "login for Kubo's RPC: bearer:TOKEN or basic:USER:PASSWORD"),
    Key("node", "ipfs_ca_file", None, "FILE", "certificates (PEM) that are trusted for Kubo's RPC"),
    Key("node", "ipfs_gateway", None, "URL", "where Kubo's gateway is, if it is not where Kubo says"),
    Key("cluster", "open_gateway", "--open-gateway", "", "let anybody read public blobs although there is a secret"),
    Key("cluster", "tls", None, "true|false", "speak TLS with the other nodes, and nothing else; needs the secret"),
    Key("facade", "insecure", "--insecure", "", "allow listeners beyond loopback, unprotected"),
    Key("facade", "htpasswd", None, "FILE", "the facade's users, with bcrypt hashes (htpasswd -B)"),
    Key("facade", "access", None, "JSON", "who may read and write which repositories"),
    Key("facade", "tls_cert", None, "FILE", "certificate of the facade and docker mirror, with its chain (PEM)"),
    Key("facade", "tls_key", None, "FILE", "key of that certificate (PEM)"),
    Key("facade", "credentials", None, "FILE", "Docker config.json with logins for upstreams"),
    Key("node", "gateways", "--gateway", "URL", "an IPFS gateway to fetch public blobs from", repeatable=True),
    Key("node", "log", None, "text|json", "how log lines look"),
    Key("node", "log_level", None, "debug|info|warning|error", "what is logged"),
)
