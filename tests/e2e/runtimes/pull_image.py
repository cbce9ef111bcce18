"""A pull over the container runtime interface (its api.proto), as a kubelet asks for it; then the image is forgotten.

A program of its own, as gRPC keeps threads and files for as long as its process lives:

    pull_image.py SOCKET IMAGE '{"username": "...", "password": "..."}'
"""

import json
import sys
from collections.abc import Mapping
from typing import Final

import grpc

_IMAGE, _AUTH = 1, 2  # fields of PullImageRequest; RemoveImageRequest has the first alone
_NAME: Final = 1  # field of ImageSpec
_AUTH_FIELDS: Final = {"username": 1, "password": 2, "auth": 3, "server_address": 4}  # of AuthConfig


def field(number: int, value: str | bytes) -> bytes:
    """A field of a message that is text or a message itself, as protobuf has it on the wire."""
    data = value.encode() if isinstance(value, str) else value
    assert len(data) < 1 << 14, "the length takes two bytes at most"
    low, high = len(data) & 0x7F, len(data) >> 7
    return bytes([number << 3 | 2, *([low | 0x80, high] if high else [low])]) + data


def encode(image: str, auth: Mapping[str, str]) -> bytes:
    """The request of either method."""
    login = b"".join(field(_AUTH_FIELDS[name], value) for name, value in auth.items())
    return field(_IMAGE, field(_NAME, image)) + (field(_AUTH, login) if auth else b"")


def main() -> None:
    """Ask; where that fails, end with exit status 1 and what the runtime said."""
    socket, image, auth = sys.argv[1:]
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        try:
            for method, login in (("PullImage", json.loads(auth)), ("RemoveImage", {})):
                ask = channel.unary_unary(f"/runtime.v1.ImageService/{method}")
                ask(encode(image, login), timeout=60, wait_for_ready=True)
        except grpc.RpcError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
