"""The types of an evaluation record; a file holds the same as one JSON object.

Plain values are converted only when read and written: `Record.from_dict` names and refuses what
    does
not fit, and `Record.to_dict` gives back what it was made from. Fields are only ever added, so a
reader takes those it knows; the parts that differ from metric to metric or from source to source
lie in `details`, which stand among the others in a file.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from vidgan.core.settings import from_dict, plain_hash, to_dict
from vidgan.errors import UserError

RECORD_SCHEMA = 2
"""Of what is written. A record of schema 1 has the same fields; its protocols named the four
manifold scores as one metric."""

UNSEALED = frozenset({"seal"})
"""Fields that the seal leaves out."""

LEFT_OUT = ("inputs", "clips", "features", "seal")
"""Fields that a file has only where they say something."""

_NUMBER, _MAYBE, _WORD = (int, float), (int, float, type(None)), (str,)
_SHARE = {"share": _NUMBER, "limit": _NUMBER}
_BESIDE_REAL = {**_SHARE, "real": _NUMBER}
_SPREAD = dict.fromkeys(("generated", "heldout", "ratio"), _NUMBER)
_CHANGE = dict.fromkeys(("change", "still", "?change_deviation", "?jerk", "?loop"), _NUMBER)
SHAPES: dict[str, Any] = {
    "agreement": {
        "?generated": {"*": _MAYBE},
        "?heldout": {"*": _MAYBE},
        "?generated_by_class": {"*": _NUMBER},
        "?heldout_by_class": {"*": _NUMBER},
        "?shown": {"generated": {"*": (int,)}, "heldout": {"*": (int,)}},
    },
    "memorisation": {
        "*": {
            **dict.fromkeys(("generated", "heldout", "ratio"), _MAYBE),
            "?copies": {**_SHARE, "?threshold": _NUMBER},
            "?repeats": _BESIDE_REAL,
            "?heldout_repeats": _BESIDE_REAL,
            "?heldout_copies": _SHARE,
        }
    },
    "diversity": {
        **_SPREAD,
        "lowest": {"ratio": _NUMBER, "class": _WORD},
        "?by_class": {"*": _SPREAD},
    },
    "motion": {"ratio": _MAYBE, "generated": _CHANGE, "heldout": _CHANGE},
    "environment": {
        "?processor": {
            **dict.fromkeys(("model", "architecture", "vectors"), _WORD),
            **dict.fromkeys(("instruction_sets", "limits"), (list,)),
        }
    },
}
"""Required structure of the plain parts: `?` marks keys that may be absent, `*` is any key."""

Plain = dict[str, Any]
"""Plain values by name, in the form their writer chose."""

ClipLists = dict[str, dict[str, list[Any]]]
"""By split the columns `name`, `label` and `crc32` of every clip."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score with its references.

    Attributes:
        value: mean over groups of generated clips.
        better: which way is better.
        n: clips of every set.
        n_real: clips of the real sets, where there are fewer.
        spread: population standard deviation over groups or repeats, if there are several.
        values: one for each group or repeat.
        real: of held-out clips.
        floor: of other training clips, pure sampling noise; `floor_meaning` says how.
        controls: scores of damaged real clips, or of forecasts without a model, by control.
        interval: `low`, `high`, `level` and `method`, where the protocol asks for it.
        extrapolated: the distance of infinitely many clips, where the protocol asks for it.
        details: further results of this metric.
    """

    value: float
    better: Literal["lower", "higher"]
    n: int | None = None
    n_real: int | None = None
    spread: float | None = None
    values: tuple[float, ...] = ()
    real: float | None = None
    floor: float | None = None
    floor_meaning: str = ""
    controls: dict[str, float] = field(default_factory=dict)
    interval: Plain | None = None
    extrapolated: Plain | None = None
    details: Plain = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = [self.value, self.real, self.floor, *self.values, *self.controls.values()]
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise UserError("a score holds a value that is not finite")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Score":
        """From the plain values of a metric."""
        return from_dict(cls, _folded(cls, values), "a score")

    def to_dict(self) -> Plain:
        """Plain values, those of `details` among them; what is empty is left out."""
        plain = to_dict(self)
        details: Plain = plain.pop("details")
        kept = ("spread", "real", "floor", "controls")
        return {k: v for k, v in plain.items() if v not in (None, "", []) or k in kept} | details


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Clips and videos of an evaluation; None is not known. `n` of every set."""

    n: int
    generated: int
    reference: int | None = None
    samples: int | None = None
    given_frames: int | None = None
    heldout: int | None = None
    train: int | None = None
    heldout_videos: int | None = None
    train_videos: int | None = None


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """Shape, classes and hashes of the real clips."""

    frames: int
    height: int
    width: int
    hash: str
    channels: int = 3
    classes: tuple[str, ...] = ()
    train_hash: str = ""
    heldout_hash: str = ""


@dataclass(frozen=True, kw_only=True)
class GeneratorFacts:
    """Where generated clips came from.

    Attributes:
        source: `file`, `generator`, `folder` or `clips`.
        step, clips_seen, model, loss, sha256: of a generator's file.
        given_frames, given: what a generator continues or restores.
        clips_hash: of the generated clips.
        is_labelled: whether they were made for a class.
        details: further facts about a file or folder.
    """

    source: str = "clips"
    step: int | None = None
    clips_seen: int | None = None
    model: Plain | None = None
    loss: str | None = None
    sha256: str | None = None
    given_frames: int | None = None
    given: str | None = None
    clips_hash: str | None = None
    is_labelled: bool | None = None
    details: Plain = field(default_factory=dict)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "GeneratorFacts":
        """From plain values, as the clips were gathered."""
        return from_dict(cls, _folded(cls, values), "facts of a generator")


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Of the evaluation, and of the judge where there could be one."""

    evaluation: int | None = None
    judge: int | None = None


PARTS: dict[str, type] = {"counts": Counts, "data": DataFacts, "seeds": Seeds}
"""Fields of a record that are groups, of which readers take the fields they know."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One evaluation.

    Attributes:
        created, wall_seconds, environment: time (UTC), cost, versions and machine.
        protocol: `id` (a registered name or `custom:<hash>`) and every field of the protocol.
        counts: clips and videos.
        scores: by metric.
        agreement: how often the judge sees the requested classes.
        memorisation: distances to nearest training clips, by space.
        diversity: within-class spread; it reveals mode collapse where scores do not.
        motion: statistics of frame differences.
        judge: the classifier that was trained on the data.
        extractor: any other network, with its weights.
        perceptual: of predictions the weights of LPIPS; `mask` the hidden box.
        data, generator, seeds: what was compared.
        inputs: what `vidgan evaluate --verify` needs to do everything again: `source`, `data`,
            `weights`, `options`.
        clips: name, label and CRC-32 of every clip. On disk it lies in a file of its own beside the
            records that share it, named by its hash.
        features: of given features the hashes of both arrays.
        warnings, comparable_to, sentence: how to read the scores.
        seal: the hash of every other field, so that an edited one can be named.
    """

    schema: int = RECORD_SCHEMA
    created: str
    protocol: Plain
    counts: Counts
    scores: dict[str, Score]
    agreement: Plain | None = None
    memorisation: Plain = field(default_factory=dict)
    diversity: Plain | None = None
    motion: Plain | None = None
    judge: Plain | None = None
    extractor: Plain | None = None
    perceptual: Plain | None = None
    mask: tuple[int, ...] | None = None
    data: DataFacts | None = None
    generator: GeneratorFacts = field(default_factory=GeneratorFacts)
    seeds: Seeds = field(default_factory=Seeds)
    environment: Plain = field(default_factory=dict)
    wall_seconds: float | None = None
    warnings: tuple[str, ...] = ()
    comparable_to: tuple[str, ...] = ()
    sentence: str
    inputs: Plain | None = None
    clips: ClipLists | None = None
    features: Plain | None = None
    seal: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.protocol.get("id"), str):
            raise UserError("a record names no protocol: protocol.id is missing")

    @property
    def protocol_id(self) -> str:
        """The registered name of the protocol, or `custom:<hash>`."""
        return str(self.protocol["id"])

    @property
    def judge_hash(self) -> str | None:
        """Of the judge's weights."""
        return None if self.judge is None else self.judge.get("hash")

    @classmethod
    def from_dict(cls, values: Any, where: str = "a record") -> "Record":
        """From plain values, as a file holds them; fields that are not known are left out.

        Args:
            values: one JSON object of schema 1 or 2.
            where: what messages call it, such as a file name.

        Raises:
            UserError: no record, one of a newer schema, or a part of it that does not fit.
        """
        if not isinstance(values, Mapping) or not {"protocol", "scores", "counts"} <= values.keys():
            raise UserError(
                f"{where} is not a record of vidgan evaluate: name a run folder or evals/*.json"
            )
        schema = values.get("schema", 1)
        if schema not in range(1, RECORD_SCHEMA + 1):
            raise UserError(
                f"{where} is a record of schema {schema!r} and this vidgan reads 1 to "
                f"{RECORD_SCHEMA}: read it with the vidgan that made it"
            )
        for part, shape in SHAPES.items():
            flaw = _misfit(values[part], shape, part) if values.get(part) is not None else None
            if flaw:
                raise UserError(f"{where} is not a valid record of vidgan evaluate: see {flaw}")
        plain = _known(cls, values)
        plain |= {key: _known(part, values[key]) for key, part in PARTS.items() if key in values}
        if "generator" in values:
            plain["generator"] = _folded(GeneratorFacts, values["generator"])
        if isinstance(values["scores"], Mapping):
            plain["scores"] = {key: _folded(Score, s) for key, s in values["scores"].items()}
        try:
            return from_dict(cls, plain, where)
        except UserError as error:
            sentence = str(error)
            raise UserError(sentence if where in sentence else f"{where}: {sentence}") from None

    def to_dict(self) -> Plain:
        """Plain values, as a file holds them."""
        plain = to_dict(self)
        generator = plain["generator"]
        details = generator.pop("details")
        plain["generator"] = _without_none(generator) | details
        plain["counts"], plain["seeds"] = (_without_none(plain[key]) for key in ("counts", "seeds"))
        plain["scores"] = {key: score.to_dict() for key, score in self.scores.items()}
        return {k: v for k, v in plain.items() if v is not None or k not in LEFT_OUT}

    def without_clips(self) -> "Record":
        """As it is printed and stored, with the list of clips left to a file of its own."""
        return replace(self, clips=None)

    def sealed(self) -> "Record":
        """With the hash of every field in `seal`."""
        return replace(self, seal=seal_of(self.to_dict()))


def _misfit(value: Any, shape: Any, place: str) -> str | None:
    """Where values deviate from `SHAPES`; None if they conform."""
    if isinstance(shape, tuple):
        return None if isinstance(value, shape) and not isinstance(value, bool) else place
    if not isinstance(value, dict):
        return place
    for name, inner in shape.items():
        for key in value if name == "*" else [name.removeprefix("?")]:
            if name.startswith("?") and value.get(key) is None:
                continue
            flaw = (
                _misfit(value[key], inner, f"{place}.{key}") if key in value else f"{place}.{key}"
            )
            if flaw:
                return flaw
    return None


def seal_of(values: Mapping[str, Any]) -> dict[str, str]:
    """The hash of every field of a record."""
    return {name: plain_hash(value) for name, value in values.items() if name not in UNSEALED}


def broken_seals(values: Mapping[str, Any]) -> list[str]:
    """Fields that were edited, added or taken away after a record was made."""
    seal, found = values.get("seal") or {}, seal_of(values)
    return [name for name in {**seal, **found} if seal.get(name) != found.get(name)]


def unknown_fields(values: Mapping[str, Any]) -> list[str]:
    """Dotted names that a record holds and readers leave out."""
    parts: dict[str, tuple[type, Any]] = {"": (Record, values)}
    parts |= {f"{name}.": (cls, values.get(name)) for name, cls in PARTS.items()}
    return [
        f"{prefix}{key}"
        for prefix, (cls, part) in parts.items()
        for key in part or ()
        if key not in _known(cls, part)
    ]


def _known(cls: type, values: Any) -> Any:
    """The values that a type has fields for."""
    if not isinstance(values, Mapping):
        return values
    names = {item.name for item in fields(cls)}
    return {key: value for key, value in values.items() if key in names}


def _folded(cls: type, values: Any) -> Any:
    """The values with those that a type has no field for in `details`."""
    if not isinstance(values, Mapping):
        return values
    known = {key: value for key, value in _known(cls, values).items() if key != "details"}
    return {**known, "details": {key: v for key, v in values.items() if key not in known}}


def _without_none(values: Plain) -> Plain:
    return {key: value for key, value in values.items() if value is not None}
