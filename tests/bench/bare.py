"""A bare aiohttp application, the ceiling of what an aiohttp node can do: fixed bytes, or one file by sendfile."""

import argparse
from pathlib import Path

from aiohttp import web


def application(data: bytes, media_type: str, file: Path) -> web.Application:
    """`/bytes` answers `data` from memory with a manifest's headers; `/file` answers a file."""

    async def from_memory(_: web.Request) -> web.Response:
        return web.Response(body=data, content_type=media_type, headers={"Docker-Content-Digest": "sha256:" + "0" * 64})

    async def from_disk(_: web.Request) -> web.FileResponse:
        return web.FileResponse(file, chunk_size=1 << 20)

    app = web.Application()
    app.add_routes([web.get("/bytes", from_memory), web.get("/file", from_disk)])
    return app


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bytes", type=Path, required=True)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--type", required=True)
    options = parser.parse_args()
    app = application(options.bytes.read_bytes(), options.type, options.file)
    web.run_app(app, host="127.0.0.1", port=options.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
