"""What a build of face clips came to: the funnel from films to clips, and the clips' lengths."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgan.data.build.report import Report, shortened
from vidgan.films.faces.film import FUNNEL

LENGTH_BINS = (30, 34, 40, 48, 58, 70)
"""First lengths of the bins of the thesis' Table 7.2; the last is open (70 to 423 there)."""

THESIS_LENGTHS = (1781, 3106, 2291, 1591, 940, 1201)
"""Clips of TrailerFaces in these bins, for comparison."""


@dataclass(frozen=True)
class FunnelStep:
    """One step of the pipeline.

    Attributes:
        what: What is counted.
        count: How many there were.
        dropped: What was dropped on the way here, by reason, most frequent first.
    """

    what: str
    count: int
    dropped: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class FacesReport(Report):
    """What became of every film.

    Attributes:
        out: The folder.
        funnel: Steps from films to clips.
        lengths: Clips by bin of length, such as "34-39".
        clips_by_split: Clips in training and held out.
        num_clip_frames: Frames of all clips.
        num_bridged: Frames among them that took their landmarks from their neighbours.
        sheets: Contact sheet (relative to `out`) and name of every film with clips.
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
        """The report for people; at most `limit` films with errors."""
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
            text += shortened([f"{name!r}: {why}" for name, why in self.dropped], limit)
        return text


def make_report(out: Path, records: Sequence[dict[str, Any]]) -> FacesReport:
    """Add up the records of films.

    Args:
        out: The folder.
        records: One of every film, with its `key`.
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
