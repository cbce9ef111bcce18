"""The key of a private IPFS swarm of a cluster's daemons: every member derives the same one, so that none is sent."""

import hmac


def swarm_key(secret: bytes) -> str:
    """The `swarm.key` file (libp2p pre-shared key, version 1) that belongs to a cluster secret.

    The secret cannot be computed from it, but guessed where it is a short one: the key is as secret as that.
    """
    return f"/key/swarm/psk/1.0.0/\n/base16/\n{hmac.digest(secret, b'layermesh swarm v1', 'sha256').hex()}\n"
