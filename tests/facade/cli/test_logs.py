"""What log lines look like."""

import json
import logging

import structlog

from facade.cli.logs import Forward, as_json, as_text


def test_a_line_for_people_has_time_level_what_and_keys() -> None:
    event = {"timestamp": "T", "level": "info", "event": "a peer is gone", "peer": "left", "why": "no answer"}
    assert as_text(None, "", event) == "T info    a peer is gone peer=left why='no answer'"


def test_a_value_from_outside_cannot_make_a_line_of_its_own() -> None:
    line = as_text(None, "", {"event": "a\nb", "name": "x\ny\x1b[31m"})
    assert "\n" not in line
    assert "\x1b" not in line


def test_a_traceback_stands_behind_its_line() -> None:
    assert as_text(None, "", {"event": "x", "exception": "Traceback"}).endswith("\nTraceback")


def test_a_line_for_machines_is_json_whatever_is_in_it() -> None:
    assert json.loads(as_json(None, "", {"event": "x", "what": {1, 2}.__class__})) == {"event": "x", "what": str(set)}


def test_a_network_that_went_away_is_one_line_and_no_traceback() -> None:
    try:
        raise OSError(101, "Network is unreachable")
    except OSError as error:
        failure = (OSError, error, error.__traceback__)
    record = logging.LogRecord("zeroconf", logging.WARNING, "", 0, "Error with socket %d", (20,), failure)
    with structlog.testing.capture_logs() as lines:
        Forward().emit(record)
    assert lines == [
        {
            "event": "Error with socket 20",
            "logger": "zeroconf",
            "error": "[Errno 101] Network is unreachable",
            "log_level": "warning",
        }
    ]
