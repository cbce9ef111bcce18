"""The settings of a Kubo daemon (0.40 and newer) beside a node, for each role that it may have."""

import json
import shlex
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from facade.settings import Address

Settings = dict[str, Any]
"""By Kubo's name of each setting, such as `Routing.Type`."""


class Role(StrEnum):
    """What the daemon is for."""

    NETWORK = "network"
    FETCH = "fetch"
    PRIVATE_SWARM = "private-swarm"


_ALONE: Final[Settings] = {
    "Bootstrap": [],
    "AutoConf.Enabled": False,
    "AutoTLS.Enabled": False,
    "Provide.Enabled": False,
    "Discovery.MDNS.Enabled": False,
    "Swarm.DisableNatPortMap": True,
    "Swarm.RelayClient.Enabled": False,
    "Swarm.RelayService.Enabled": False,
    "Swarm.EnableHolePunching": False,
}
"""It asks and tells nobody beyond the machines that it is introduced to."""
_SAME_CIDS: Final[Settings] = {
    "Import.CidVersion": 1,
    "Import.HashFunction": "sha2-256",
    "Import.UnixFSRawLeaves": True,
    "Import.UnixFSChunker": "size-1048576",
    "Import.UnixFSDAGLayout": "balanced",
    "Import.UnixFSFileMaxLinks": 1024,
}
"""What people add by hand gets the CIDs that layermesh computes (unixfs-v1-2025)."""
_NETWORK: Final[Settings] = {
    "Addresses.API": "/ip4/127.0.0.1/tcp/5001",
    "Addresses.Gateway": "/ip4/127.0.0.1/tcp/8080",
    "Routing.Type": "none",
    **_ALONE,
    **_SAME_CIDS,
}
_PRIVATE: Final[Settings] = {"Addresses.Swarm": ["/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"]}
"""A swarm with a key knows TCP alone."""
_ONE_ROLE: Final = (
    "a daemon has one role: Routing.Type is none in a network and delegated in one that fetches, and what is set last"
    " counts"
)
_NETWORK_NOTES: Final = (
    "for a daemon that the node publishes to; nodes introduce their daemons to each other",
    "it keeps a copy of each public blob besides the node's own: plan the disk for both",
    _ONE_ROLE,
)
_PRIVATE_NOTES: Final = (
    "before it starts, the same key on every machine:"
    " layermesh ipfs swarm-key --secret-file FILE > $IPFS_PATH/swarm.key; chmod 600 $IPFS_PATH/swarm.key",
    "start the daemon with LIBP2P_FORCE_PNET=1, so that it never runs without the key",
)


@dataclass(frozen=True, slots=True)
class KuboSettings:
    """What a daemon is told, and what a person has to know or do besides, one line each."""

    settings: Settings
    notes: tuple[str, ...]

    def nested(self) -> dict[str, Any]:
        """The settings as they stand in Kubo's `config` file."""
        whole: dict[str, Any] = {}
        for name, value in self.settings.items():
            *path, last = name.split(".")
            place = whole
            for part in path:
                place = place.setdefault(part, {})
            place[last] = value
        return whole

    def commands(self) -> list[str]:
        """A command for each setting, to be pasted while the daemon is stopped."""
        return [f"ipfs config --json {name} {shlex.quote(json.dumps(value))}" for name, value in self.settings.items()]


def kubo_settings(role: Role, sidecar: Address) -> KuboSettings:
    """What a daemon in this role is told; `sidecar` is where the node's Kubo sidecar listens."""
    if role is Role.FETCH:
        return KuboSettings(_fetching(sidecar), _fetch_notes(sidecar))
    if role is Role.NETWORK:
        return KuboSettings(_NETWORK, _NETWORK_NOTES)
    return KuboSettings(_NETWORK | _PRIVATE, _NETWORK_NOTES + _PRIVATE_NOTES)


def _fetching(sidecar: Address) -> Settings:
    return {
        "Routing.Type": "delegated",
        "Routing.DelegatedRouters": [f"http://{sidecar}"],
        "HTTPRetrieval.Enabled": True,
        "Internal.Bitswap.ProviderSearchDelay": "10ms",
        "Provide.Enabled": False,
    }


def _fetch_notes(sidecar: Address) -> tuple[str, ...]:
    return (
        f"for a daemon that fetches what this node and its peers have; the node runs with --kubo-sidecar {sidecar}",
        "bootstrap peers and the swarm stay as they are; a daemon that should go on asking the public DHT takes"
        " autoclient as Routing.Type instead",
        _ONE_ROLE,
    )
