"""Log lines on stderr: `key=value` for people, JSON for machines."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final

import msgspec
import structlog

Event = MutableMapping[str, Any]
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(form: str, level: str) -> None:
    """Set up structlog, and send there what libraries log with `logging` (warnings and worse)."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(),
            as_json if form == "json" else as_text,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[Forward()], level=max(_LEVELS[level], logging.WARNING), force=True)


def as_json(_: Any, __: str, event: Event) -> str:
    """One JSON object a line."""
    return msgspec.json.encode(dict(event), enc_hook=str).decode()


def as_text(_: Any, __: str, event: Event) -> str:
    """`TIME LEVEL what happened key=value ...`, always on one line, but for a traceback behind it."""
    rest = dict(event)
    time, level, what = rest.pop("timestamp", ""), rest.pop("level", ""), rest.pop("event", "")
    trace = rest.pop("exception", None)
    words = [f"{time} {level:<7} {_flat(what)}", *(f"{key}={_quoted(value)}" for key, value in rest.items())]
    return " ".join(words) + (f"\n{trace}" if trace else "")


class Forward(logging.Handler):
    """Passes what libraries log on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        if type(error).__module__ == "aiohttp.http_exceptions":
            structlog.get_logger().debug("what a client sent is no HTTP", logger=record.name, error=str(error))
        elif isinstance(error, OSError):  # the network, not a defect: no traceback
            structlog.get_logger().log(record.levelno, message, logger=record.name, error=str(error))
        else:
            structlog.get_logger().log(record.levelno, message, logger=record.name, exc_info=error)


def _flat(value: object) -> str:
    """Text from anywhere, without characters that would make another line or colour of it."""
    text = str(value)
    return text if text.isprintable() else repr(text)[1:-1]


def _quoted(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and text and " " not in text and '"' not in text else repr(text)
