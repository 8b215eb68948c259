"""The option `--no-skips`: a test that is skipped fails the run; and clips that tests share."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from metric_clips import Labelled


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail if any test is skipped")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped or not terminalreporter.config.getoption("--no-skips"):
        return
    terminalreporter.section("skipped, although nothing may be")
    for report in skipped:
        terminalreporter.line(f"{report.nodeid}: {report.longrepr[2]}")
    session = terminalreporter._session
    if session is not None and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def training_shapes() -> "Labelled":
    """240 small labelled clips that every part may learn from."""
    from metric_clips import moving_shapes

    return moving_shapes(240, seed=0)


@pytest.fixture(scope="session")
def other_shapes() -> "Labelled":
    """80 others of the same kind."""
    from metric_clips import moving_shapes

    return moving_shapes(80, seed=1)
