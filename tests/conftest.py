"""The option `--no-skips`: a test that is skipped fails the run; what tests share."""

import os
from collections.abc import Iterator
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


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests leave the user's cache alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


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


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """The command line sets variables for its children, which later tests must not inherit."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
