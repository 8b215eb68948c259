"""Requests to end: which are heeded, by whom, and what counts as the second one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from vidgan.core import stop_signals
from vidgan.core.stop_signals import STOP_SIGNALS, Interrupted, StopSignals


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither torchrun nor nohup, under which SIGHUP is ignored, started these tests."""
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    # A busy machine may rest between two signals of a test, and the second one would end it.
    monkeypatch.setattr(stop_signals, "_COPY_S", 60.0)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_every_stop_signal_is_noted_and_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(n) for n in STOP_SIGNALS]
    with StopSignals().listening() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        # A launcher that passes the signal on, or `timeout`, sends it twice.
        signal.raise_signal(number)
        assert stop.requested
    assert [signal.getsignal(n) for n in STOP_SIGNALS] == before


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals().listening() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested
            signal.raise_signal(signal.SIGTERM)
            assert stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_unwind_a_block() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        with pytest.raises(Interrupted) as caught, stop_signals.raised():
            signal.raise_signal(number)
        assert (caught.value.number, caught.value.name) == (number, number.name)


SECOND = """
import os, signal, sys, time
from vidgan.core.stop_signals import StopSignals
with StopSignals().listening():
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_second_request_ends_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", SECOND], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM


@pytest.mark.parametrize("launcher", ["TORCHELASTIC_RUN_ID", ""])
def test_without_its_launcher_a_process_ends(launcher: str) -> None:
    # A shell that goes away takes nothing with it: who started a job may log out.
    script = (
        "import os, sys, time\n"
        "from vidgan.core.stop_signals import StopSignals\n"
        "parent = os.getpid()\n"
        "if os.fork():\n"
        "    time.sleep(0.5)\n"
        "    os._exit(0)\n"
        "stop = StopSignals()\n"
        "before = stop.requested\n"
        "while os.getppid() == parent:\n"
        "    time.sleep(0.01)\n"
        "print(before, stop.requested, flush=True)\n"
    )
    environment = {**os.environ, **({launcher: "1"} if launcher else {})}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["False", str(bool(launcher))], done.stderr
