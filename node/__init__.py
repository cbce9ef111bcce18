"""One machine alone: blobs on disk, the tables that name them, and the IPFS gateway that others read them through."""
