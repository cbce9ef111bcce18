"""A bare aiohttp proxy, the floor of what an aiohttp node adds to a cold pull: no store, no hashes, no checks."""

import argparse
from collections.abc import AsyncIterator

from aiohttp import ClientSession, web

_SESSION = web.AppKey("session", ClientSession)
_PASSED = ("Content-Length", "Content-Type", "Docker-Content-Digest")


def application(upstream: str) -> web.Application:
    """Every request goes to `upstream`, every body comes back as it arrives."""

    async def pass_on(request: web.Request) -> web.StreamResponse:
        headers = {"Accept": request.headers.get("Accept", "*/*")}
        async with request.app[_SESSION].request(request.method, upstream + request.path, headers=headers) as answer:
            passed = {name: answer.headers[name] for name in _PASSED if name in answer.headers}
            response = web.StreamResponse(status=answer.status, headers=passed)
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(data)
            await response.write_eof()
            return response

    async def session(app: web.Application) -> AsyncIterator[None]:
        async with ClientSession(auto_decompress=False) as app[_SESSION]:
            yield

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", pass_on)
    app.cleanup_ctx.append(session)
    return app


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True)
    options = parser.parse_args()
    web.run_app(application(options.upstream), host="127.0.0.1", port=options.port, access_log=None, print=None)


if __name__ == "__main__":
    main()
