"""With LAYERMESH_NO_SKIP=1 a skipped test fails, with the reason it would have been skipped for: CI skips nothing."""

import os
from collections.abc import Generator
from typing import Final

import pytest

ENABLED: Final = os.environ.get("LAYERMESH_NO_SKIP") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip in a test or its fixtures into a failure."""
    report = yield
    if ENABLED and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipping is off (LAYERMESH_NO_SKIP=1): {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module into a failure."""
    report = yield
    if ENABLED and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipping is off (LAYERMESH_NO_SKIP=1): {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
