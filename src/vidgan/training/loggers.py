"""Loggers: where the numbers and samples of a run go besides `log.jsonl` and the page.

A logger is a class with four methods. TensorBoard, Weights & Biases and trackio are built in; other
packages add theirs by the entry point group `vidgan.loggers` (docs/adding-a-logger.md). Each runs
in a thread of its own, so that one that raises, is slow or hangs neither stops nor delays training.
"""

import importlib
import io
import queue
import sys
import tempfile
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from vidgan.core.files import read_json, write_json_atomically
from vidgan.core.plugins import Registry
from vidgan.core.progress import say
from vidgan.errors import UserError
from vidgan.video import mp4_bytes, tile_clips, write_gif

MAX_WAITING = 1000
"""Calls that may wait for a logger before it counts as too slow."""
CLOSING_S = 60.0
"""Seconds that the end of a training waits for all loggers together."""
DISPLAY_SIZE = 128
"""Pixels to which small clips are enlarged, by a whole factor."""
LOGIN_S = 5.0
"""Seconds that wandb may wait for somebody to type a key."""


@dataclass(frozen=True, kw_only=True)
class LoggedRun:
    """The run that a logger is told of.

    Attributes:
        folder: run folder; a logger may keep files there, below a name of its own.
        settings: all settings as plain values, as in `config.yaml`.
        step: step of the checkpoint at which training starts or continues, 0 at first. Whatever was
            logged of later steps will be logged again, with the same numbers unless the run was
            rolled back.
    """

    folder: Path
    settings: Mapping[str, Any]
    step: int

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.folder.resolve().name


class Logger(ABC):
    """Where numbers and samples go; all calls come from one thread, one after the other.

    An exception ends the logger, with a line on stderr, and not the training. `start` may come
    again after `close`: when training rolls back to an earlier step.

    Attributes:
        PACKAGE: package that it imports, which is also the extra of vidgan that installs it; empty
            if there is none.
    """

    PACKAGE: ClassVar[str] = ""

    @abstractmethod
    def start(self, run: LoggedRun) -> None:
        """Begin, or continue after the step of `run`."""

    @abstractmethod
    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log the numbers of one line of `log.jsonl`; `/` separates groups in their names."""

    def clips(self, step: int, name: str, clips: Tensor, fps: float) -> None:  # noqa: B027
        """Log clips, uint8 `[B, C, T, H, W]` with `fps` frames a second; ignored by default.

        Args:
            step: step of the generator.
            name: `samples`, or `real` for real clips beside them.
            clips: one or three channels; on the CPU, not to be changed.
            fps: frames per second.
        """

    def close(self) -> None:  # noqa: B027
        """Write what is left; nothing comes after it but another `start`."""


LOGGERS = Registry(
    "logger",
    "training.log",
    "vidgan.loggers",
    {
        "tensorboard": "vidgan.training.loggers:TensorBoardLogger",
        "trackio": "vidgan.training.loggers:TrackioLogger",
        "wandb": "vidgan.training.loggers:WandbLogger",
    },
)


def make_loggers(names: Iterable[str]) -> dict[str, Logger]:
    """The loggers of these names, which are not started.

    Raises:
        UserError: there is no such logger, or its package is missing.
    """
    return {name: _make_logger(name) for name in names}


def _make_logger(name: str) -> Logger:
    found = LOGGERS.find(name)
    if not issubclass(found, Logger):
        raise UserError(f"training.log={name} is not a vidgan.training.loggers.Logger")
    package = found.PACKAGE
    try:
        if package:
            importlib.import_module(package)
    except Exception as error:
        # A package may raise anything while it is imported.
        raise UserError(
            f"training.log={name} needs the extra {package!r}: pip install 'vidgan[{package}]'"
            f" ({type(error).__name__}: {error})"
        ) from error
    try:
        return found()
    except Exception as error:
        raise UserError(f"training.log={name} cannot be made: {error}") from error


# ------------------------------------------------------------------------------------------------
# All loggers of a run, each in its thread


class Loggers:
    """The loggers of a run; its methods return at once."""

    def __init__(self, loggers: Mapping[str, Logger], run: LoggedRun) -> None:
        self._run = run
        self._threads = [_LoggerThread(name, logger) for name, logger in loggers.items()]
        self._stack = ExitStack()
        if self._threads:
            # Results go to stdout; what a package prints is none.
            self._stack.enter_context(redirect_stdout(sys.stderr))
        self._call(lambda logger: logger.start(run))

    def log(self, record: Mapping[str, Any]) -> None:
        """Pass on the numbers of a line of the log."""
        scalars = dict(_numbers(record))
        step = int(scalars.pop("step"))
        self._call(lambda logger: logger.log(step, scalars))

    def clips(self, step: int, name: str, clips: Tensor, fps: float) -> None:
        """Pass on clips; see `Logger.clips`."""
        if self._threads:
            clips = clips.cpu()
            self._call(lambda logger: logger.clips(step, name, clips, fps))

    def rewind(self, step: int) -> None:
        """Start again after a step that training went back to."""
        self._call(lambda logger: logger.close())
        self._call(lambda logger: logger.start(replace(self._run, step=step)))

    def close(self) -> None:
        """Let the loggers finish, for `CLOSING_S` seconds at most."""
        self._call(lambda logger: logger.close())
        for thread in self._threads:
            thread.end()
        left_s = CLOSING_S
        for thread in self._threads:
            left_s = thread.wait(left_s)
        self._stack.close()

    def _call(self, what: "Callable[[Logger], None]") -> None:
        for thread in self._threads:
            thread.call(what)


def _numbers(record: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    """The numbers of a record, those inside groups as `group/name`, without its time."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            inner = prefix if key == "values" else f"{prefix}{key}/"
            yield from _numbers(value, inner)
        elif isinstance(value, int | float) and not isinstance(value, bool) and key != "time":
            yield f"{prefix}{key}", value


class _LoggerThread:
    """One logger and the calls that wait for it; after an exception it is off."""

    def __init__(self, name: str, logger: Logger) -> None:
        self._name, self._logger = name, logger
        self._waiting: queue.SimpleQueue[Callable[[Logger], None] | None] = queue.SimpleQueue()
        self._is_off = False
        self._thread = threading.Thread(target=self._run, name=f"logger {name}", daemon=True)
        self._thread.start()

    def call(self, what: "Callable[[Logger], None]") -> None:
        """Queue a call."""
        if not self._is_off and self._waiting.qsize() >= MAX_WAITING:
            self._turn_off("it cannot keep up with the training")
        if not self._is_off:
            self._waiting.put(what)

    def end(self) -> None:
        """End the thread after the calls that wait."""
        self._waiting.put(None)

    def wait(self, seconds: float) -> float:
        """Wait for the thread to end; the seconds that are left."""
        end_s = time.monotonic() + seconds
        self._thread.join(seconds)
        if self._thread.is_alive() and not self._is_off:
            self._turn_off("it does not finish")
        return max(0.0, end_s - time.monotonic())

    def _run(self) -> None:
        while (what := self._waiting.get()) is not None:
            if self._is_off:
                continue
            try:
                what(self._logger)
            except BaseException as error:
                # Some packages call sys.exit; nothing else can end this thread from outside.
                lines = str(error).strip().splitlines()
                self._turn_off(": ".join([type(error).__name__, *lines[:1]]))

    def _turn_off(self, reason: str) -> None:
        self._is_off = True
        say(f"the logger {self._name} is off from here on ({reason}); the training goes on")


# ------------------------------------------------------------------------------------------------
# TensorBoard


class TensorBoardLogger(Logger):
    """Event files in `tensorboard/` of the run folder: `tensorboard --logdir RUN`.

    Clips are animated GIFs among the images. When a run continues, a new file hides what stands
    beyond its step in the files before.
    """

    PACKAGE = "tensorboard"

    def start(self, run: LoggedRun) -> None:
        """Open a new event file; it says from which step on earlier ones do not count."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(run.folder / "tensorboard"))
        mark = SessionLog(status=SessionLog.START)
        self._writer.add_event(Event(step=run.step + 1, session_log=mark))

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """One scalar for each number."""
        self._write(step, [{"tag": name, "simple_value": x} for name, x in scalars.items()])

    def clips(self, step: int, name: str, clips: Tensor, fps: float) -> None:
        """A grid of the clips as an animated image."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        grid = _grid(clips)
        height, width = grid.shape[2:]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "grid.gif"
            write_gif(file, grid, fps)
            image = Summary.Image(
                height=height, width=width, colorspace=3, encoded_image_string=file.read_bytes()
            )
        self._write(step, [{"tag": name, "image": image}])

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()

    def _write(self, step: int, values: list[dict[str, Any]]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(**value) for value in values])
        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def _grid(clips: Tensor) -> Tensor:
    return tile_clips(clips, scale=max(1, DISPLAY_SIZE // clips.shape[-1]))


# ------------------------------------------------------------------------------------------------
# Services that number their steps upwards and cannot take back what they were told


class _Service(Logger):
    """A logger that keeps an identity and the last step that was sent in the run folder.

    What was sent is sent once: when a run continues from an earlier step, or goes back to one, the
    numbers up to the last step sent are left out, in whatever process.
    """

    def start(self, run: LoggedRun) -> None:
        """Continue the run of this folder, or open a new one."""
        self._file = run.folder / "loggers" / f"{self.PACKAGE}.json"
        found = read_json(self._file) if self._file.exists() else {}
        self._id = str(found.get("id") or uuid.uuid4().hex[:12])
        self._sent = {"log": 0, **found.get("sent", {})}
        self._keep()
        self._service = self._open(run)

    def log(self, step: int, scalars: Mapping[str, float]) -> None:
        """The numbers of a step."""
        self._send("log", step, lambda: scalars)

    def clips(self, step: int, name: str, clips: Tensor, fps: float) -> None:
        """A grid of the clips as a film."""
        self._send(name, step, lambda: {name: self._film(mp4_bytes(_grid(clips), fps))})

    def close(self) -> None:
        """Wait until the service has everything."""
        self._service.finish()

    def _send(self, what: str, step: int, make: Callable[[], Mapping[str, Any]]) -> None:
        if step <= self._sent.get(what, 0):
            return
        # Noted first: after a kill in between a point is missing, and none is there twice.
        self._sent[what] = step
        self._keep()
        self._service.log(dict(make()), step=step)

    def _keep(self) -> None:
        write_json_atomically(self._file, {"id": self._id, "sent": self._sent})

    @abstractmethod
    def _open(self, run: LoggedRun) -> Any:
        """The run of the service with the identity `_id`, made if there is none."""

    @abstractmethod
    def _film(self, content: bytes) -> Any:
        """A film of the service of the bytes of an MP4 file."""


class WandbLogger(_Service):
    """Weights & Biases; `WANDB_PROJECT`, `WANDB_MODE=offline` and its other variables count.

    The project is `vidgan` unless a variable names another.
    """

    PACKAGE = "wandb"

    def _open(self, run: LoggedRun) -> Any:
        import wandb

        settings = wandb.Settings(
            console="off", login_timeout=LOGIN_S, save_code=False, silent=True
        )
        return wandb.init(
            project=settings.project or "vidgan",
            dir=str(run.folder),
            id=self._id,
            name=run.name,
            config=dict(run.settings),
            resume="allow",
            settings=settings,
        )

    def _film(self, content: bytes) -> Any:
        import wandb

        return wandb.Video(io.BytesIO(content), format="mp4")


class TrackioLogger(_Service):
    """trackio, on this machine: `trackio show --project vidgan`; `TRACKIO_DIR` says where."""

    PACKAGE = "trackio"

    def _open(self, run: LoggedRun) -> Any:
        import trackio

        self._folder = tempfile.TemporaryDirectory()
        return trackio.init(
            project="vidgan",
            name=f"{run.name}-{self._id}",
            config=dict(run.settings),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def _film(self, content: bytes) -> Any:
        import trackio

        file = Path(self._folder.name) / f"{uuid.uuid4().hex}.mp4"
        file.write_bytes(content)
        return trackio.Video(str(file), format="mp4")
