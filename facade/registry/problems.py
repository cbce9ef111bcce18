"""Errors as the OCI distribution specification 1.1 has them ("Error codes"), and what each of our errors becomes."""

import json
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from facade.registry.requests import Form
from node.errors import DeniedError, LayermeshError, NotFoundError, ThrottledError

_MOST_DETAIL: Final = 1000


@dataclass
class Problem(Exception):
    """An answer that is an error: HTTP status, the specification's code, a message for people."""

    status: int
    code: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        """The error body of the specification."""
        message = self.message[:_MOST_DETAIL]
        body = json.dumps({"errors": [{"code": self.code, "message": message, "detail": None}]})
        return web.Response(
            status=self.status, body=body.encode(), headers={"Content-Type": "application/json", **self.headers}
        )


def unserved(error: LayermeshError, form: Form, code: str) -> Problem:
    """What a client is told when a manifest or blob cannot be had; `code` is MANIFEST_UNKNOWN or BLOB_UNKNOWN.

    A mirror answers 404, so that the runtime goes to its next host; under the full name an outage is told apart from
    "no such image". What an anonymous client may not read is 404 in every form: the runtime then goes direct.
    """
    if isinstance(error, NotFoundError | DeniedError) or form is Form.MIRROR:
        return Problem(404, code, str(error))
    if isinstance(error, ThrottledError):
        wait = max(1, round(error.retry_after_s or 1))
        return Problem(429, "TOOMANYREQUESTS", str(error), {"Retry-After": str(wait)})
    return Problem(503, code, str(error), {"Retry-After": "1"})
