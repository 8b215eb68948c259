"""Resumable work over many videos, one by one.

Every video leaves one record, written when everything else about it is complete. A restart skips
videos with a record; what an interrupted one left is cleared away. Videos do not influence each
other, so the outcome is the same whatever the number of workers.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from vidgan.core.code_version import VERSION
from vidgan.core.files import (
    DISK_FULL,
    TEMPORARY_MARK,
    one_at_a_time,
    read_json,
    write_json_atomically,
)
from vidgan.core.progress import Progress
from vidgan.core.settings import differences
from vidgan.data.build.engine import Crashed, Engine, num_cores
from vidgan.data.sources.tree import list_videos
from vidgan.errors import UserError
from vidgan.video import VideoError
from vidgan.video.sequences import files_at

# ------------------------------------------------------------------------------------------------
# OpenCV (extra `faces`): imported where it is needed, one thread, version checked

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

_ADVICE = "install it with: pip install 'vidgan[faces]'"


def opencv() -> Any:
    """The module `cv2`, set to one thread so that results do not depend on the machine.

    Raises:
        UserError: it is not installed, or a version without SIFT or Haar cascades.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError(f"faces and stabilisation need OpenCV: {_ADVICE}") from error
    if not hasattr(cv2, "CascadeClassifier") or not hasattr(cv2, "SIFT_create"):
        raise UserError(
            f"OpenCV {cv2.__version__} has no Haar cascades (5.0 dropped them), which faces need:"
            f" remove it and {_ADVICE}"
        )
    cv2.setNumThreads(1)
    return cv2


def grey_image(pixels: Pixels) -> Pixels:
    """RGB `[H, W, 3]` to grey `[H, W]`."""
    cv2 = opencv()
    grey: Pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return grey


def shrink(pixels: Pixels, width: int) -> Pixels:
    """Scale an image down to `width` pixels by averaging; smaller ones stay as they are."""
    cv2 = opencv()
    if pixels.shape[1] <= width:
        return pixels
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    small: Pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return small


class SiftMatcher:
    """SIFT features of grey images and the matches between two of them (Lowe 2004).

    Nearest neighbours are searched exactly, not by randomised trees, so that the same images
    always give the same matches.

    Args:
        num_features: the strongest features of an image that are kept.
        ratio: a match counts if its distance is below this share of the second best one's.
    """

    def __init__(self, num_features: int, ratio: float) -> None:
        cv2 = opencv()
        self._sift = cv2.SIFT_create(num_features)
        self._nearest = cv2.BFMatcher(cv2.NORM_L2)
        self._ratio = ratio

    def features(self, grey: Pixels) -> tuple[Floats, npt.NDArray[np.float32]]:
        """Places `[N, 2]` (x, y) and descriptors `[N, 128]` of the features of an image."""
        keypoints, descriptors = self._sift.detectAndCompute(grey, None)
        if descriptors is None:
            return np.zeros((0, 2)), np.zeros((0, 128), np.float32)
        return np.array([keypoint.pt for keypoint in keypoints]), descriptors

    def matches(
        self, first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        """Pairs `[M, 2]` of row numbers that pass the ratio test."""
        if len(first) < 2 or len(second) < 2:
            return np.zeros((0, 2), np.int64)
        pairs = [
            (best.queryIdx, best.trainIdx)
            for best, next_best in self._nearest.knnMatch(first, second, k=2)
            if best.distance < self._ratio * next_best.distance
        ]
        return np.array(pairs, np.int64).reshape(-1, 2)

    def share(
        self, first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]
    ) -> float | None:
        """Matches over the number of features of the poorer image; None if it has under two."""
        fewest = min(len(first), len(second))
        return len(self.matches(first, second)) / fewest if fewest > 1 else None


# ------------------------------------------------------------------------------------------------
# Resumable work over many videos, one by one

Job = TypeVar("Job")

TIME_LIMIT_S = 3600.0
"""Longest time for one video; a trailer takes minutes."""

_HEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class WorkItem:
    """One video to work on.

    Attributes:
        name: path within the source folder.
        key: name of its record and outputs; no other video has it.
        fingerprint: changes with the file.
        extra: more to be noted in its record.
    """

    name: str
    key: str
    fingerprint: str
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Work(Generic[Job]):
    """What is done with an item.

    Attributes:
        function: Module-level function from a job to a record; what it raises ends the work.
        job_of: the job of an item.
        clear: removes whatever the videos with these keys have left.
    """

    function: Callable[[Job], dict[str, Any]]
    job_of: Callable[[WorkItem], Job]
    clear: Callable[[set[str]], None]


def video_names(root: Path) -> list[str]:
    """Paths of all videos and folders of numbered images below `root`, sorted.

    Raises:
        UserError: there is none.
    """
    # Class folders mean nothing here: a video outside of them is one like any other.
    return list_videos(root)


def file_fingerprint(path: Path) -> str:
    """A fingerprint of a video from its size, beginning and end."""
    digest = hashlib.blake2b(digest_size=16)
    for file in (f for f in files_at(path) if f.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        if file != path:
            continue
        with file.open("rb") as handle:
            digest.update(handle.read(_HEAD_BYTES))
            handle.seek(max(0, size - _HEAD_BYTES))
            digest.update(handle.read(_HEAD_BYTES))
    return digest.hexdigest()


def failed_record(name: str, outcome: str, reason: str) -> dict[str, Any]:
    """The record of a video that gave nothing: `unusable` by its own fault, or `failed` by ours."""
    return {"name": name, "outcome": outcome, "reason": reason}


def guarded_record(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The record of a video that `work` went through, or one that says why it could not.

    Only what concerns every other video too is raised: a full disk, and settings that cannot work.

    Args:
        name: path of the video within the source folder.
        work: gives the record but for `name` and `outcome`; it may set a `reason` of its own.
    """
    try:
        return {"name": name, "outcome": "done", "reason": None, **work()}
    except VideoError as error:
        return failed_record(name, "unusable", error.cause)
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise
        # Among thousands of downloads every fault occurs; the others must continue.
        return failed_record(name, "failed", f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class WorkFolder:
    """A folder of records and outputs.

    Attributes:
        path: the folder.
        kind: what its plan file is called and calls itself, such as `faces`.
        schema: version of the records.
        what: what it holds, in words.
    """

    path: Path
    kind: str
    schema: int
    what: str

    @property
    def plan_file(self) -> Path:
        """The file with the folder's kind and settings."""
        return self.path / f"{self.kind}.json"

    def plan(self) -> dict[str, Any]:
        """The contents of the plan file.

        Raises:
            UserError: there is none of this kind, or it is of a newer version.
        """
        plan = read_object(self.plan_file) if self.plan_file.is_file() else {}
        if plan.get("format") != f"vidgan-{self.kind}":
            raise UserError(f"{self.path} holds no {self.what}: name a folder that does")
        if plan["schema"] > self.schema:
            raise UserError(
                f"{self.path} was made by a newer vidgan (schema {plan['schema']}, this one knows"
                f" {self.schema}): update vidgan"
            )
        return plan

    @contextmanager
    def begun(self, settings: dict[str, Any]) -> Iterator[None]:
        """Hold the folder for this process alone; make or check its plan.

        Raises:
            UserError: foreign contents, other settings, or another process at work.
        """
        if self.path.exists() and not self.plan_file.is_file() and any(self._visible()):
            raise UserError(f"{self.path} holds something else already: choose another folder")
        self.path.mkdir(parents=True, exist_ok=True)
        busy = f"another process is working in {self.path}: wait for it or choose another folder"
        with one_at_a_time(self.path / f"{TEMPORARY_MARK}lock", busy):
            self._settle(settings)
            yield

    def record_file(self, key: str) -> Path:
        """Where the record of a video lies."""
        return self.path / "records" / f"{key}.json"

    def records(self) -> list[dict[str, Any]]:
        """All records with their `key`, sorted by it."""
        files = sorted((self.path / "records").glob("*.json"))
        return [{"key": file.stem, **read_object(file)} for file in files]

    def is_finished(self, item: WorkItem, retry: bool) -> bool:
        """Whether there is a record of this very file, and no wish to try it again."""
        file = self.record_file(item.key)
        if not file.is_file():
            return False
        record = read_object(file)
        failed = retry and record["outcome"] == "failed"
        return bool(record.get("fingerprint") == item.fingerprint and not failed)

    def _settle(self, settings: dict[str, Any]) -> None:
        if not self.plan_file.is_file():
            plan = {"format": f"vidgan-{self.kind}", "schema": self.schema}
            plan |= {"builder": VERSION, "settings": settings}
            write_json_atomically(self.plan_file, plan)
            return
        changed = differences(self.plan()["settings"], settings)
        if changed:
            told = ", ".join(f"{item.key}={item.first} and not {item.second}" for item in changed)
            raise UserError(
                f"{self.path} was started with {told}: leave the settings as they were, or choose"
                " another folder"
            )

    def _visible(self) -> Iterator[Path]:
        return (path for path in self.path.iterdir() if not path.name.startswith("."))


def work_through(
    folder: WorkFolder,
    items: Sequence[WorkItem],
    work: Work[Job],
    *,
    workers: int | None = None,
    engine: Engine | None = None,
    retry: bool = False,
    progress: Progress | None = None,
) -> None:
    """Work on every item without a record and write its record.

    Args:
        folder: the folder, held by `begun`.
        items: everything that there is to do.
        work: what is done with an item.
        workers: items at the same time; None takes one a core. 0 works in this process, without
            protection against videos that crash or hang.
        engine: where the work is done; None takes processes of this machine.
        retry: try items again that failed before.
        progress: called with (done, total, what).
    """
    todo = [item for item in items if not folder.is_finished(item, retry)]
    keys = {item.key for item in todo}
    work.clear(keys)
    for key in keys:
        folder.record_file(key).unlink(missing_ok=True)
    engine = engine or Engine(time_limit_s=TIME_LIMIT_S)
    # At least one process of its own: a video that crashes its decoder must not end the work.
    default = max(1, min(num_cores(), len(todo)))
    jobs = [work.job_of(item) for item in todo]
    results = engine.map_in_order(work.function, jobs, workers, default)
    for done, (item, result) in enumerate(zip(todo, results, strict=True), 1):
        if isinstance(result, Crashed):
            work.clear({item.key})
            result = failed_record(item.name, "failed", result.reason)
        record = result | item.extra | {"fingerprint": item.fingerprint}
        write_json_atomically(folder.record_file(item.key), record)
        if progress:
            progress(len(items) - len(todo) + done, len(items), f"making {folder.what}")


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object out of a file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return read_json(file)
    except UserError as error:
        raise UserError(f"{error}: delete it, and its video is done again") from error
