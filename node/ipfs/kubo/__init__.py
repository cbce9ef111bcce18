"""A real Kubo daemon as the IPFS network: published by its RPC, read through its gateway (Kubo 0.40 and newer)."""
