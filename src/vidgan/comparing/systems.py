"""Which results belong to one system, how each system is named, and duplicate results.

Settings and generator decide, never the name of a folder or file: names only distinguish systems
that would else be called alike.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vidgan.core.settings import differences
from vidgan.evaluation.metric import metric_title
from vidgan.evaluation.record import TOLERANCE
from vidgan.evaluation.record_types import Record
from vidgan.report.scores import basis_of

NO_PART_OF_A_SYSTEM = {"run", "seed", "preset", "data.workers", "data.path", "best.metric"}
"""Settings by which runs of one and the same system may differ."""
MAX_NAMED = 3
"""Settings that a label names to distinguish systems."""
OF_THIS_TIME = ("created", "wall_seconds", "environment", "inputs", "clips", "seal")
"""Fields in which two records of the same clips may differ."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One evaluated generator.

    Attributes:
        record: its evaluation.
        run: its run folder, or None for a record alone.
        settings: of the run, as plain values; empty for a record alone.
        label: a name given by the caller, or None.
        source: where the record was found, as it was given; empty for one in memory.
        marks: reasons why the record may have been edited.
        is_sealed: whether the record has an intact seal.
    """

    record: Record
    run: Path | None = None
    settings: Mapping[str, Any]
    label: str | None = None
    source: str = ""
    marks: tuple[str, ...] = ()
    is_sealed: bool = True


def without_repeats(results: Sequence[Result]) -> list[Result]:
    """The results with each generator once; the one that is kept says what it stands for.

    Records are of one generator if they name one file of weights, or if it made the same clips:
    whoever rewrites a file changes its hash, and not what its generator makes.
    """
    groups: list[tuple[set[str], list[Result]]] = []
    for result in results:
        contents = _contents(result.record)
        same = [group for group in groups if group[0] & contents]
        known, members = same[0] if same else (set(), [])
        for group in same[1:]:
            known |= group[0]
            members += group[1]
        known |= contents
        members.append(result)
        groups = [group for group in groups if group not in same[1:]]
        groups += [] if same else [(known, members)]
    return _with_twins_told([_one_of(members) for _, members in groups])


def _with_twins_told(results: Sequence[Result]) -> list[Result]:
    """The results, each of which says so if another one has the very same scores."""
    seen: dict[str, Result] = {}
    told = []
    for result in results:
        scores = {key: [score.value, score.values] for key, score in result.record.scores.items()}
        twin = seen.setdefault(json.dumps([basis_of(result.record), scores]), result)
        mark = (
            f"{twin.source or 'one'} and {result.source or 'another'} have scores that are equal "
            "to the last bit, as those of one generator are"
        )
        told.append(result if twin is result else replace(result, marks=(*result.marks, mark)))
    return told


def _contents(record: Record) -> set[str]:
    """What generator or clips a record is of, each with all that its scores were measured on."""
    generator, features = record.generator, record.features or {}
    told = {
        "file": generator.sha256,
        "clips": generator.clips_hash,
        "features": features.get("generated"),
    }
    known: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    if not known:
        whole = record.to_dict()
        known["record"] = {name: whole[name] for name in whole if name not in OF_THIS_TIME}
    basis = basis_of(record)
    return {json.dumps([basis, item], sort_keys=True) for item in known.items()}


def _one_of(group: Sequence[Result]) -> Result:
    """The result that speaks for all of one generator, with what is said of the others."""
    stays = min(group, key=lambda result: (not result.is_sealed, len(result.marks)))
    others = [result for result in group if result is not stays]
    return replace(stays, marks=(*stays.marks, *(_repeat(stays, other) for other in others)))


def _repeat(stays: Result, goes: Result) -> str:
    names = f"{stays.source or 'one'} and {goes.source or 'another'}"
    files = {stays.record.generator.sha256, goes.record.generator.sha256}
    if files == {None}:
        same = f"{names} hold the same clips, which count once"
    elif len(files) == 1:
        same = f"{names} hold the same generator, which counts once"
    else:
        same = f"{names} made the same clips, so they hold one generator, which counts once"
    pairs = {
        metric_title(key): (_value(stays.record, key), _value(goes.record, key))
        for key in {**stays.record.scores, **goes.record.scores}
    }
    other = [
        f"{title} ({_exact(kept)} and {_exact(dropped)})"
        for title, (kept, dropped) in pairs.items()
        if _differ(kept, dropped)
    ]
    if not other:
        return same
    reason = "it was given first"
    if stays.is_sealed != goes.is_sealed:
        reason = "the seal of the other is broken or missing"
    elif len(stays.marks) != len(goes.marks):
        reason = "it has fewer remarks"
    return (
        f"{same}, though they do not agree on {', '.join(other)}: "
        f"{stays.source or 'the one'} is kept, since {reason}"
    )


def _value(record: Record, key: str) -> float | None:
    return record.scores[key].value if key in record.scores else None


def _exact(value: float | None) -> str:
    return "none" if value is None else f"{value:.9g}"


def _differ(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one != other
    return abs(one - other) > TOLERANCE * max(abs(one), abs(other))


def label_systems(results: Sequence[Result]) -> list[str]:
    """A name for each result; seeds of one system share it, and no two systems do.

    Systems of the same model and loss are distinguished by the settings that differ, and
    those of which no settings are known by as much of their path as it takes.
    """
    places = [_place(result, number) for number, result in enumerate(results, 1)]
    systems = [_system(result, place) for result, place in zip(results, places, strict=True)]
    names = [result.label or _short_name(result) for result in results]
    labels = []
    for name, system, result in zip(names, systems, results, strict=True):
        others = [s for n, s in zip(names, systems, strict=True) if n == name and s != system]
        differing = dict.fromkeys(
            item.key.removeprefix("settings.")
            for other in others
            for item in differences(other, system)
            if item.key.startswith("settings.")
        )
        words = [f"{key}={_setting(result.settings, key)}" for key in list(differing)[:MAX_NAMED]]
        is_told = bool(words) and result.label is None
        labels.append(f"{name} ({', '.join(words)})" if is_told else name)
    return _told_apart(labels, [json.dumps(s, sort_keys=True) for s in systems], places)


def _system(result: Result, place: str) -> dict[str, Any]:
    """What two results have to share to be of one system."""
    generator = result.record.generator
    found = {
        "source": generator.source,
        "model": generator.model,
        "loss": generator.loss,
        "given": [generator.given, generator.given_frames],
    }
    if not result.settings:
        # How it was trained is unknown, so it is a system of its own.
        return {"place": place}
    kept = json.loads(json.dumps(result.settings))
    for key in NO_PART_OF_A_SYSTEM:
        section, _, name = key.rpartition(".")
        (kept.get(section, {}) if section else kept).pop(name, None)
    return {**found, "settings": kept}


def _place(result: Result, number: int) -> str:
    return str(Path(result.source).resolve()) if result.source else f"number {number}"


def _setting(settings: Mapping[str, Any], key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _short_name(result: Result) -> str:
    if result.settings:
        return f"{result.settings['model']['name']}, {result.settings['loss']['name']}"
    path = Path(result.source)
    return (path.stem if path.is_file() else path.resolve().name) or "a record"


def _told_apart(labels: list[str], keys: Sequence[str], places: Sequence[str]) -> list[str]:
    """The labels, with the ends of their paths where systems are called alike."""
    alike: dict[str, dict[str, tuple[str, ...]]] = {}
    for label, key, place in zip(labels, keys, places, strict=True):
        alike.setdefault(label, {}).setdefault(key, Path(place).parts)
    return [
        f"{label} ({_end_of(alike[label], key)})" if len(alike[label]) > 1 else label
        for label, key in zip(labels, keys, strict=True)
    ]


def _end_of(paths: Mapping[str, tuple[str, ...]], key: str) -> str:
    """As much of the end of a path as no other has; its number where they are all the same."""
    mine = paths[key]
    for length in range(1, len(mine) + 1):
        end = mine[-length:]
        if sum(parts[-length:] == end for parts in paths.values()) == 1:
            return "/".join(end)
    return f"number {list(paths).index(key) + 1}"
