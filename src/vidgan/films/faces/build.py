"""A folder of films to a folder of aligned face clips, resumable film by film."""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgan.core.files import TEMPORARY_MARK
from vidgan.core.progress import Progress
from vidgan.core.randomness import derive_seed
from vidgan.core.settings import to_dict
from vidgan.data.build.engine import Engine
from vidgan.data.build.report import Report, indented
from vidgan.films.faces.film import FUNNEL, FacesConfig, FilmJob, process_film
from vidgan.films.faces.landmarks import make_landmarker
from vidgan.films.faces.shots import cut_detector
from vidgan.films.item_work import (
    Work,
    WorkFolder,
    WorkItem,
    file_fingerprint,
    opencv,
    video_names,
    work_through,
)

# ------------------------------------------------------------------------------------------------
# Result of a face-clip build: the funnel from films to clips, and the clips' lengths

LENGTH_BINS = (30, 34, 40, 48, 58, 70)
"""First lengths of the bins of the thesis' Table 7.2; the last is open (70 to 423 there)."""

THESIS_LENGTHS = (1781, 3106, 2291, 1591, 940, 1201)
"""Clips of TrailerFaces in these bins, for comparison."""


@dataclass(frozen=True)
class FunnelStep:
    """One step of the pipeline.

    Attributes:
        what: what is counted.
        count: how many there were.
        dropped: what was dropped on the way here, by reason, most frequent first.
    """

    what: str
    count: int
    dropped: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class FacesReport(Report):
    """The outcome for every film.

    Attributes:
        out: the folder.
        funnel: steps from films to clips.
        lengths: clips by bin of length, such as "34-39".
        clips_by_split: clips in training and held out.
        num_clip_frames: frames of all clips.
        num_bridged: frames among them that took their landmarks from their neighbours.
        sheets: contact sheet (relative to `out`) and name of every film with clips.
    """

    out: str
    funnel: tuple[FunnelStep, ...]
    lengths: dict[str, int]
    clips_by_split: dict[str, int]
    num_clip_frames: int
    num_bridged: int
    sheets: tuple[tuple[str, str], ...]

    @property
    def num_clips(self) -> int:
        """Number of clips."""
        return self.funnel[-1].count

    def lines(self, limit: int = 20) -> list[str]:
        """The human-readable report; at most `limit` films with errors."""
        width = max(len(f"{step.count:,}") for step in self.funnel)
        text = []
        for step in self.funnel:
            text += [f"{'':>{width}}   -{count:,} {why}" for why, count in step.dropped.items()]
            text.append(f"{step.count:>{width},} {step.what}")
        if self.num_clips:
            splits = ", ".join(f"{name} {n:,}" for name, n in self.clips_by_split.items())
            lengths = ", ".join(f"{name}: {n:,}" for name, n in self.lengths.items() if n)
            text += [f"splits: {splits}", f"clips by number of frames: {lengths}"]
        if self.dropped:
            text.append(f"films without a result: {len(self.dropped)}")
            text += indented([f"{name!r}: {why}" for name, why in self.dropped], limit)
        return text


def report_of_films(out: Path, records: Sequence[dict[str, Any]]) -> FacesReport:
    """Add up the records of films.

    Args:
        out: the folder.
        records: one of every film, with its `key`.
    """
    done = [record for record in records if record["outcome"] == "done"]
    counts: Counter[str] = Counter()
    dropped: dict[str, Counter[str]] = {key: Counter() for key, _ in FUNNEL}
    for record in done:
        counts.update(record["funnel"])
        for step, reasons in record["dropped"].items():
            dropped[step].update(reasons)
    unusable: Counter[str] = Counter()
    for record in records:
        if record["outcome"] != "done":
            unusable[f"films {record['outcome']}"] += 1
    clips = [clip | {"split": record["split"]} for record in done for clip in record["clips"]]
    steps = [
        FunnelStep("films", len(records), {}),
        FunnelStep("films read", len(done), dict(unusable.most_common())),
        *(FunnelStep(what, counts[key], dict(dropped[key].most_common())) for key, what in FUNNEL),
    ]
    return FacesReport(
        out=str(out),
        funnel=tuple(steps),
        lengths=length_histogram([clip["num_frames"] for clip in clips]),
        clips_by_split=dict(sorted(Counter(clip["split"] for clip in clips).items())),
        num_clip_frames=sum(clip["num_frames"] for clip in clips),
        num_bridged=sum(clip["num_bridged"] for clip in clips),
        dropped=tuple((r["name"], r["reason"]) for r in records if r["outcome"] != "done"),
        sheets=tuple((f"sheets/{r['key']}.png", r["name"]) for r in done if r["clips"]),
    )


def length_histogram(lengths: Sequence[int]) -> dict[str, int]:
    """Numbers of clips in the bins of the thesis' Table 7.2, shorter ones in a bin of their own.

    Example:
        >>> length_histogram([32, 33, 40, 500])["30-33"]
        2
    """
    names = [f"{a}-{b - 1}" for a, b in itertools.pairwise(LENGTH_BINS)]
    names = [f"under {LENGTH_BINS[0]}", *names, f"{LENGTH_BINS[-1]} and more"]
    counts = Counter(sum(length >= edge for edge in LENGTH_BINS) for length in lengths)
    histogram = {name: counts[n] for n, name in enumerate(names)}
    if not counts[0]:
        del histogram[names[0]]
    return histogram


# ------------------------------------------------------------------------------------------------
# A folder of films to a folder of aligned face clips, resumable film by film

SCHEMA = 1

_CLIPS = "clips"
_SPLITS = ("train", "heldout")


def build_faces(
    films: str | Path,
    out: str | Path,
    config: FacesConfig | None = None,
    *,
    workers: int | None = None,
    engine: Engine | None = None,
    retry: bool = False,
    progress: Progress | None = None,
) -> FacesReport:
    """Make aligned face clips out of the films of a folder.

    The clips appear as `out/clips/train/*.mp4` and `out/clips/heldout/*.mp4`, which `build_clips`
    reads; all clips of a film are on the same side. `out/records` holds a record and `out/sheets`
    a contact sheet of every film. A call that was interrupted continues; films added later are
    worked on, films that changed are processed again.

    Args:
        films: folder of video files and of folders of numbered images, at any depth.
        out: folder to make or to continue.
        config: settings; None takes the defaults.
        workers: films at the same time; None takes one a core. 0 works in this process, without
            protection against films that crash or hang.
        engine: where the work is done; None takes processes of this machine.
        retry: try films again that failed before.
        progress: called with (done, total, what).

    Raises:
        UserError: no films, a foreign `out`, other settings than those `out` was started with,
            another process at work there, or a package or model that is missing.
    """
    config = config or FacesConfig()
    # Absolute: the workers of a cluster run elsewhere.
    out, root = Path(out).absolute(), Path(films).absolute()
    opencv()
    make_landmarker(config.landmarks)
    cut_detector(config.shots)
    items = _find_films(root, config)
    folder = _folder(out)

    def job(film: WorkItem) -> FilmJob:
        return FilmJob(
            path=str(root / film.name),
            name=film.name,
            key=film.key,
            folder=str(out / _CLIPS / film.extra["split"]),
            sheet=str(out / "sheets" / f"{film.key}.png"),
            config=config,
        )

    with folder.begun(to_dict(config)):
        for split in _SPLITS:
            (out / _CLIPS / split).mkdir(parents=True, exist_ok=True)
        work_through(
            folder,
            items,
            Work(process_film, job, lambda keys: _clear(out, keys)),
            workers=workers,
            engine=engine,
            retry=retry,
            progress=progress,
        )
        return report_of_films(out, folder.records())


def film_key(name: str) -> str:
    """A file name for the outputs of a film: readable, portable and its own.

    Example:
        >>> film_key("2019/Great film!.mp4")
        'Great-film-b60355af'
    """
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(name).stem).strip("-")[:40] or "film"
    return f"{stem}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def _folder(out: Path) -> WorkFolder:
    return WorkFolder(out, "faces", SCHEMA, "face clips")


def _find_films(root: Path, config: FacesConfig) -> list[WorkItem]:
    names = video_names(root)
    draws = {name: derive_seed("faces heldout", name) / 2**63 for name in names}
    # At least one film must be for training.
    always_train = max(names, key=lambda name: draws[name])

    def split(name: str) -> str:
        held_out = draws[name] < config.clips.heldout_fraction and name != always_train
        return "heldout" if held_out else "train"

    return [
        WorkItem(name, film_key(name), file_fingerprint(root / name), {"split": split(name)})
        for name in names
    ]


def _clear(out: Path, keys: set[str]) -> None:
    """Remove the clips and sheets of films, and half-written files."""
    for split in _SPLITS:
        for file in (out / _CLIPS / split).iterdir():
            match = re.fullmatch(r"(.+)_s\d+_c\d+\.mp4", file.name)
            if file.name.startswith(TEMPORARY_MARK) or (match and match[1] in keys):
                file.unlink()
    for key in keys:
        (out / "sheets" / f"{key}.png").unlink(missing_ok=True)
