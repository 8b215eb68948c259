"""The outcome of a build for every video: records, manifest, report and refusals."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, median_low

from vidgan.core.shapes import LevelShape
from vidgan.data.build.duplicates import REPEATS
from vidgan.data.build.encode import EncodedClip, Rejected
from vidgan.data.build.engine import Crashed
from vidgan.data.build.quality import FILTERS
from vidgan.data.packed.manifest import ClipItem, Manifest
from vidgan.data.packed.payload import codec_for
from vidgan.data.packed.writer import BuildPlan, KeptRecord, SourceRecord
from vidgan.data.scorable import why_unscorable
from vidgan.data.settings import DataConfig
from vidgan.data.sources.source import Scan, Source
from vidgan.errors import UserError, counted, printable

_MAX_NAMED_CLASSES = 12
_MAX_RATE_RATIO = 1.03
"""Film at 24 frames a second and PAL at 25 differ, 29.97 and 30 do not, nor does rounding count."""
_MAX_NAMED_RATES = 4
_MAX_ALIKE = 5
"""Videos that are named one by one although the same happened to them."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome for every video of a source.

    Attributes:
        out: what was made; None for a check.
        dropped: name and reason of each dropped video.
    """

    out: str | None
    dropped: tuple[tuple[str, str], ...]

    def lines(self, limit: int = 20) -> list[str]:
        """The human-readable report; at most `limit` lines of each kind that names videos."""
        raise NotImplementedError


def indented(lines: Sequence[str], limit: int) -> list[str]:
    """Indented lines, and how many more there are than `limit`."""
    more = [f"  and {len(lines) - limit:,} more"] if len(lines) > limit else []
    return [*(f"  {line}" for line in lines[:limit]), *more]


@dataclass(frozen=True, kw_only=True)
class BuildReport(Report):
    """The outcome for every video of a packed set.

    Attributes:
        source: folder of videos, or container.
        layout: what it was read as, and why.
        num_videos: videos found.
        counts: kept clips by split and class (class "" without labels).
        notes: name and remark of each video that was handled specially ("" is the whole folder).
        flaws: source of a kept clip, filter of `QualityConfig`, and the problem.
        advice: sentences about the size and the balance of the set.
        levels: stored sizes, full size first.
        fps: median frame rate of the clips.
    """

    source: str
    layout: str
    num_videos: int
    counts: dict[str, dict[str, int]]
    notes: tuple[tuple[str, str], ...]
    flaws: tuple[tuple[str, str, str], ...]
    advice: tuple[str, ...]
    levels: tuple[LevelShape, ...]
    fps: float

    @property
    def num_clips(self) -> int:
        """Number of kept clips."""
        return sum(sum(classes.values()) for classes in self.counts.values())

    @property
    def set_notes(self) -> list[str]:
        """Remarks on the whole source."""
        return [note for name, note in self.notes if not name]

    def lines(self, limit: int = 20) -> list[str]:
        """The human-readable report; at most `limit` lines for drops and for remarks each."""
        full = self.levels[0]
        first = (
            f"{counted(self.num_videos, 'video')} in {self.source}:"
            f" {counted(self.num_clips, 'clip')} of {counted(full.frames, 'frame')}"
            f" at {full.resolution} x {full.resolution}, {self.fps:g} frames per second"
        )
        text = [printable(self.layout), printable(first)]
        for split, classes in self.counts.items():
            named = ", ".join(f"{name} {count}" for name, count in classes.items() if name)
            if len(classes) > _MAX_NAMED_CLASSES:
                few, many = min(classes.values()), max(classes.values())
                named = f"{len(classes)} classes with {few} to {many} clips"
            named = f" ({named})" if named else ""
            text.append(f"  {split}: {sum(classes.values())}{named}")
        text += [f"  {note}" for note in self.set_notes]
        handled = [(name, note) for name, note in self.notes if name]
        doubtful = [(name, what) for name, _, what in self.flaws]
        titled = (("dropped", self.dropped), ("handled", handled), ("doubtful", doubtful))
        for title, pairs in titled:
            text += listed(title, pairs, limit)
        text += self.advice
        return [printable(line) for line in text]


def listed(title: str, pairs: Sequence[tuple[str, str]], limit: int = 20) -> list[str]:
    """Names and what happened to them under a title with their number, in `limit` lines at most."""
    if not pairs:
        return []
    text = [f"{title}: {len(pairs)}", *indented(_grouped(pairs), limit)]
    return [printable(line) for line in text]


def _grouped(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """A line for each name, but one for all names of what happened to many."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, what in pairs:
        names[what].append(name)
    lines = []
    for what, all_names in names.items():
        if len(all_names) > _MAX_ALIKE:
            lines.append(f"{len(all_names)} videos, {all_names[0]} first: {what}")
        else:
            lines += [f"{name}: {what}" for name in all_names]
    return lines


def make_record(number: int, result: EncodedClip | Rejected | Crashed) -> SourceRecord:
    """Plain values about one source, for the journal and the manifest."""
    if isinstance(result, EncodedClip):
        return {
            "source": number,
            "reason": None,
            "notes": list(result.notes),
            "num_corrupt": result.num_corrupt,
            "stored_frames": result.stored_frames,
            "fps": result.fps,
            "crc32": list(result.checksums),
            "num_bytes": result.num_bytes,
            "flaws": result.flaws,
            "signature": result.signature.hex(),
        }
    num_frames = result.num_frames if isinstance(result, Rejected) else None
    return {
        "source": number,
        "reason": result.reason,
        "num_frames": num_frames,
        "is_broken": not isinstance(result, Rejected) or result.is_broken,
        "notes": [],
    }


def broken_sources(records: Sequence[SourceRecord]) -> set[int]:
    """Numbers of the sources that no settings would make a whole clip of."""
    return {r["source"] for r in records if r["reason"] is not None and r.get("is_broken", False)}


def make_manifest(
    scan: Scan,
    records: Sequence[SourceRecord],
    plan: BuildPlan,
    config: DataConfig,
    levels: tuple[LevelShape, ...],
) -> Manifest:
    """The manifest of everything that `records` kept; classes without a clip are left out."""
    kept = [record for record in records if record["reason"] is None]
    used = {scan.sources[record["source"]].class_name for record in kept}
    classes = [name for name in scan.classes if name in used]
    notes = [("", note) for note in scan.notes]
    empty = [name for name in scan.classes if name not in used]
    if empty:
        notes.append(("", f"classes without a usable video: {', '.join(empty)}"))

    notes += [("", note) for note in _mixed_rates(kept)]

    def item(source: Source, record: KeptRecord) -> ClipItem:
        label = -1 if source.class_name is None else classes.index(source.class_name)
        checksums = tuple(record["crc32"])
        frames, group = record["stored_frames"], source.group or ""
        return ClipItem(label, source.split, source.name, frames, checksums, group)

    told = _told_of(scan)
    dropped = [
        (scan.sources[r["source"]].name, told(r["source"], r["reason"]))
        for r in records
        if r["reason"] is not None
    ]
    return Manifest(
        levels=levels,
        codecs=tuple(codec_for(config.payload, level.resolution) for level in levels),
        classes=tuple(classes),
        attributes={name: scan.attributes[name] for name in classes if name in scan.attributes},
        fps=round(median([record["fps"] for record in kept]), 3) if kept else 0.0,
        items_per_chunk=plan["items_per_chunk"],
        items=tuple(item(scan.sources[record["source"]], record) for record in kept),
        dropped=tuple(sorted([*scan.dropped, *dropped])),
        notes=(
            *notes,
            *(
                (scan.sources[record["source"]].name, ", ".join(record["notes"]))
                for record in kept
                if record["notes"]
            ),
        ),
        flaws=tuple(
            (scan.sources[record["source"]].name, name, told(record["source"], what))
            for record in kept
            for name, what in record["flaws"].items()
        ),
        num_bytes=sum(record["num_bytes"] for record in kept),
        settings=plan["settings"],
        source_hash=plan["source_hash"],
        builder=plan["builder"],
        layout=scan.layout,
        num_missing=scan.num_missing,
    )


def _told_of(scan: Scan) -> Callable[[int, str], str]:
    """What completes what is said of a source with the split of the clip that it repeats."""
    split_of = {source.name: source.split for source in scan.sources}

    def told(number: int, what: str) -> str:
        other = split_of.get(what.removeprefix(REPEATS)) if what.startswith(REPEATS) else None
        is_same = other in (None, scan.sources[number].split)
        return what if is_same else f"{what} of the split {other}"

    return told


def _mixed_rates(kept: Sequence[KeptRecord]) -> list[str]:
    """A sentence about clips that play at different rates, if some do."""
    rates = [record["fps"] for record in kept]
    if not rates or max(rates) <= _MAX_RATE_RATIO * min(rates):
        return []
    common = Counter(round(rate, 2) for rate in rates).most_common()
    named = ", ".join(f"{count} at {rate:g}" for rate, count in common[:_MAX_NAMED_RATES])
    more = (
        f", {len(common) - _MAX_NAMED_RATES} more rates" if len(common) > _MAX_NAMED_RATES else ""
    )
    told = (
        f"clips of different rates are mixed ({named}{more} frames a second), so the same motion"
        f" has different speeds: fps={median_low(rates):g} plays all at one"
    )
    return [told]


def report_of_manifest(
    root: str | Path, what: str, manifest: Manifest, out: Path | None
) -> BuildReport:
    """The report on a manifest, of a set that was or would be made out of `root`.

    Args:
        root: the source.
        what: what it was recognised as, in words.
        manifest: the set's.
        out: the set; None for a check.
    """
    return BuildReport(
        source=str(root),
        layout=what,
        out=None if out is None else str(out),
        num_videos=len(manifest.items) + len(manifest.dropped) - manifest.num_missing,
        counts=manifest.counts(),
        dropped=manifest.dropped,
        notes=manifest.notes,
        flaws=manifest.flaws,
        advice=tuple(advise(manifest)),
        levels=manifest.levels,
        fps=manifest.fps,
    )


def refuse_unusable(
    scan: Scan, records: Sequence[SourceRecord], manifest: Manifest, config: DataConfig
) -> None:
    """Raise a `UserError` that says why, if there is nothing to train on."""
    if any(item.split == "train" for item in manifest.items):
        return
    if manifest.items:
        raise UserError(
            f"no usable video in {scan.root} belongs to the split train: put some into a folder"
            " train, or set data.splits=off"
        )
    lengths = [
        record["num_frames"]
        for record in records
        if record["reason"] is not None and record["num_frames"]
    ]
    reasons = Counter(reason for _, reason in manifest.dropped).most_common(3)
    told = "; ".join(f"{count} x {reason}" for reason, count in reasons)
    # The median: a length that half of the videos have, and not that of one long exception.
    usual = median_low(lengths) if lengths else 0
    hint = f": set data.frames={usual} or less, or data.short=loop" if usual else ""
    raise UserError(
        f"none of the {len(manifest.dropped)} videos in {scan.root} gives a clip of"
        f" {config.frames} frames ({told}){hint}"
    )


def refuse_misfit(manifest: Manifest, config: DataConfig, path: Path) -> None:
    """Raise a `UserError` if clips of `config` cannot be cut out of a packed set."""
    full = manifest.levels[0]
    if config.resolution > full.resolution or full.resolution % config.resolution:
        raise UserError(
            f"{path} holds clips of {full.resolution} pixels, from which"
            f" data.resolution={config.resolution} cannot be averaged by a whole factor:"
            f" set data.resolution={full.resolution} or build the set again"
        )
    shortest = min(item.stored_frames for item in manifest.items)
    if config.frames > shortest:
        raise UserError(
            f"{path} holds clips of {shortest} frames, fewer than data.frames={config.frames}:"
            f" set data.frames={shortest} or build the set again"
        )


def unmet_settings(manifest: Manifest, config: DataConfig) -> list[str]:
    """Settings that a packed set was not built with and that cannot be applied afterwards."""
    built = manifest.settings
    asked = {name: getattr(config, name) for name in ("resize", "stride", "fps", "splits", "clip")}
    if built["clip"] == "random" and built["stored_frames"] is None:
        # Whole videos are stored: every window can be cut out of them.
        del asked["clip"]
    return [
        f"{name}={built[name]} and not {value}"
        for name, value in asked.items()
        if built[name] != value
    ]


# ------------------------------------------------------------------------------------------------
# The size of a training set and what to expect of it, in sentences

_SIZES = {
    100: "a generator memorises so few: add videos, or cut more from long ones with clip=random",
    1000: "enough for a small model at 16 to 32 pixels; set training.augment against memorisation",
    10_000: "enough for one kind of scene at 32 to 64 pixels; UCF-101, 101 kinds, trains on 9,537",
    1 << 62: "the size of published sets: TrailerFaces holds 10,910 clips, Golf 603,776",
}
"""What to expect below this many training clips, judged by what published systems trained on."""
_UNEVEN = 3
"""A class this many times as large as another is reported: a model rarely sees the other."""
_FEW_OF_A_CLASS = 20
_FEW_HELDOUT = 50
"""With fewer, scores of held-out clips are mostly noise."""


def advise(manifest: Manifest) -> list[str]:
    """Sentences about size, balance and doubtful clips of a set; none for an empty one."""
    train = [item for item in manifest.items if item.split == "train"]
    if not train:
        return []
    full = manifest.levels[0]
    windows = sum(item.stored_frames - full.frames + 1 for item in train)
    frames = sum(item.stored_frames for item in manifest.items)
    decoded = 3 * full.resolution**2 * frames
    size = (
        f"training set: {len(train):,} clips, {windows:,} windows of {full.frames} frames; the"
        f" whole set takes {_bytes(manifest.num_bytes)} packed and {_bytes(decoded)} decoded"
    )
    text = [size, f"  {next(what for limit, what in _SIZES.items() if len(train) < limit)}"]
    text += [f"  {line}" for line in (*_balance(manifest), *_heldout(manifest))]
    counts = Counter(name for _, name, _ in manifest.flaws)
    text += [
        f"  {counts[name]:,} clips {what}: quality.{name}=drop leaves such out"
        for name, what in FILTERS.items()
        if counts[name]
    ]
    return text


def _balance(manifest: Manifest) -> list[str]:
    classes = Counter(item.label for item in manifest.items if item.split == "train")
    if not manifest.classes:
        return []
    counts = {name: classes[label] for label, name in enumerate(manifest.classes)}
    # The first in alphabetical order of those that are equal.
    small, large = min(counts, key=lambda n: counts[n]), max(counts, key=lambda n: counts[n])
    text = []
    if counts[large] >= _UNEVEN * counts[small]:
        text.append(
            f"the classes are uneven, from {counts[small]:,} training clips ({small}) to"
            f" {counts[large]:,} ({large}): a conditional model learns the small ones last"
        )
    few = [name for name, count in counts.items() if count < _FEW_OF_A_CLASS]
    if few:
        more = f" and {len(few) - 1} more" if len(few) > 1 else ""
        text.append(
            f"fewer than {_FEW_OF_A_CLASS} training clips are of class {few[0]}{more}: a model"
            " without classes may do better"
        )
    return text


def _heldout(manifest: Manifest) -> list[str]:
    reason = why_unscorable(manifest.items, manifest.levels[0].frames)
    if reason:
        return [reason]
    count = sum(item.split != "train" for item in manifest.items)
    if count >= _FEW_HELDOUT:
        return []
    return [f"{count} held-out clips: scores on fewer than {_FEW_HELDOUT} are mostly noise"]


def _bytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB" if count < 1 << 30 else f"{count / 2**30:,.1f} GiB"
