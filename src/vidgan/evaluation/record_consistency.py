"""Whether the numbers of a record fit each other: scores that follow from others, and diagnostics.

An edited record can be sealed again, but whoever edits one number rarely edits all that follow
from it. Nothing is computed from clips here; `vidgan evaluate --verify` does that.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from vidgan.core.settings import HASH_DIGITS, shortened
from vidgan.evaluation.checks import FLICKER, chances_of
from vidgan.evaluation.metric import Metric, Protocol
from vidgan.evaluation.record_types import Record, Score
from vidgan.evaluation.score import motion_sensitivity, spread_ratio

ROUNDING = 1e-9
"""Relative difference of a number that was computed twice from the same float64 numbers."""


# ------------------------------------------------------------------------------------------------
# Scores that follow from others


def derived_contradictions(
    record: Record, protocol: Protocol, metrics: Mapping[str, Metric]
) -> Iterator[str]:
    """Sentences about scores that do not follow from those that they are made of.

    Args:
        record: one whose single scores are in order.
        protocol: that it names.
        metrics: of its scores, as far as they are installed.
    """
    controls = next((score.controls.keys() for score in record.scores.values()), None)
    for key, score in record.scores.items():
        yield from _of_interval(key, score, protocol)
        if key not in metrics or protocol.extractor == "given":
            continue
        if score.controls.keys() != controls:
            yield f"scores.{key} has other controls than the first score"
        metric = metrics[key]
        for name, value in _derived(score, metric).items():
            told = score.details.get(name, value)
            if not is_close(told, value):
                yield f"scores.{key}.{name} is {shortened(told)} and its scores give {value}"
        group = score.details.get("first_group")
        first = group.get("value") if isinstance(group, Mapping) else None
        if first is not None and score.values and not is_close(first, score.values[0]):
            yield f"scores.{key}.first_group is {shortened(first)} and not {score.values[0]}"
        if metric.combine is not None:
            found = metric.combine(record.scores, spread_ratio(record.diversity))
            yield from _of_combined(key, score, found)


def _derived(score: Score, metric: Metric) -> dict[str, float | None]:
    """What the details of a score repeat of its other numbers."""
    if metric.needs == "scores" or not score.real:
        return {}
    if not metric.uses_reference:
        return {"share_of_real": score.value / score.real}
    controls = score.controls
    if metric.better != "lower" or not {"shuffled", "noise"} <= controls.keys():
        return {}
    found = motion_sensitivity(controls["shuffled"], score.real, controls["noise"])
    return {"motion_sensitivity": found}


def _of_combined(key: str, score: Score, found: Score | None) -> Iterator[str]:
    """A score that others give, against what they give."""
    if found is None:
        yield f"scores.{key} rests on other scores, and there are none"
        return
    pairs = [("value", score.value, found.value), ("real", score.real, found.real)]
    pairs += [("floor", score.floor, found.floor)]
    pairs += [(name, score.controls.get(name), value) for name, value in found.controls.items()]
    for name, told, value in pairs:
        if not is_close(told, value):
            yield f"scores.{key} of {name} is {shortened(told)} and the other scores give {value}"
    for name, value in found.details.items():
        if score.details.get(name, value) != value:
            yield f"scores.{key}.{name} is {shortened(score.details[name])} and not {value}"


def _of_interval(key: str, score: Score, protocol: Protocol) -> Iterator[str]:
    """Ends that are none, or that the protocol does not ask for."""
    if score.extrapolated is not None and not protocol.extrapolate:
        yield f"scores.{key} is extrapolated, which its protocol does not ask for"
    for name, found in (("interval", score.interval), ("extrapolated", score.extrapolated)):
        if found is None or (name == "extrapolated" and "low" not in found):
            continue
        low, high = found.get("low"), found.get("high")
        if not (isinstance(low, int | float) and isinstance(high, int | float) and low <= high):
            yield f"scores.{key}.{name} reaches from {shortened(low)} to {shortened(high)}"
        elif not is_share(found.get("level")):
            yield f"scores.{key}.{name}.level is {shortened(found.get('level'))} and not a share"


# ------------------------------------------------------------------------------------------------
# Diagnostics beside the scores


def diagnostic_contradictions(record: Record) -> Iterator[str]:
    """Sentences about diagnostics and facts that no evaluation gives."""
    yield from _of_facts(record)
    classes = () if record.data is None else record.data.classes
    yield from _of_agreement(record, classes)
    yield from _of_memorisation(record.memorisation)
    yield from _of_ratios(record)
    yield from _of_spread(record.diversity or {}, classes)
    yield from _of_motion(record.motion or {})


def _of_facts(record: Record) -> Iterator[str]:
    generator = record.generator
    for name in ("step", "clips_seen", "given_frames"):
        if (getattr(generator, name) or 0) < 0:
            yield f"generator.{name} is {getattr(generator, name)}"
    if (record.wall_seconds or 0) < 0:
        yield f"wall_seconds is {record.wall_seconds:g}"
    for name, length in (("sha256", 64), ("clips_hash", HASH_DIGITS)):
        told = getattr(generator, name)
        if told is not None and not re.fullmatch(f"[0-9a-f]{{{length}}}", told):
            yield f"generator.{name} is {shortened(told)}, which is not a hash"
    try:
        datetime.fromisoformat(record.created)
    except ValueError:
        yield f"created is {shortened(record.created)}, which is not a time"
    classes = () if record.data is None else record.data.classes
    if len(set(classes)) < len(classes):
        yield "data.classes holds a class twice"


def _of_agreement(record: Record, classes: Sequence[str]) -> Iterator[str]:
    found = record.agreement or {}
    known = chances_of(classes)
    for group in ("generated", "heldout"):
        parts, by_class = found.get(group) or {}, found.get(f"{group}_by_class") or {}
        yield from _not_shares({f"agreement.{group}.{k}": v for k, v in parts.items()})
        yield from _not_shares({f"agreement.{group}_by_class.{k}": v for k, v in by_class.items()})
        named = [name for name, value in parts.items() if value is not None]
        odd = [name for name in named if name not in known]
        odd += [name for name in by_class if name not in classes]
        if odd:
            yield f"agreement.{group} is of {shortened(odd[0])}, which is no class of its data"
        joint = parts.get("joint")
        if joint is None or not by_class:
            continue
        low, high = min(by_class.values()), max(by_class.values())
        if not low - ROUNDING <= joint <= high + ROUNDING:
            yield (
                f"agreement.{group}.joint is {joint:g} and its classes reach from {low:g} to "
                f"{high:g}"
            )
    lacking = [
        name
        for name, value in (found.get("generated") or {}).items()
        if value is not None and (found.get("heldout") or {}).get(name) is None
    ]
    if lacking:
        yield f"agreement.heldout lacks {', '.join(lacking)}"
    yield from _of_shown(found.get("shown") or {}, record, classes)


def _of_shown(
    shown: Mapping[str, Mapping[str, int]], record: Record, classes: Sequence[str]
) -> Iterator[str]:
    """Counts by class whose sum is not that of the clips."""
    for group, counts in shown.items():
        clips = getattr(record.counts, group, None)
        if sorted(counts) != sorted(classes):
            yield f"agreement.shown.{group} is of other classes than its data"
        elif min(counts.values()) < 0 or sum(counts.values()) != clips:
            yield f"agreement.shown.{group} counts {sum(counts.values())} of {clips} clips"


def _of_memorisation(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for space, entry in found.items():
        for name in ("copies", "repeats", "heldout_repeats", "heldout_copies"):
            part = entry.get(name) or {}
            where = f"memorisation.{space}.{name}"
            shares = {f"{where}.{key}": part[key] for key in ("share", "real") if key in part}
            yield from _not_shares(shares)
            if min(part.get("limit") or 0, part.get("threshold") or 0) < 0:
                yield f"{where} holds a limit below 0"


def _of_ratios(record: Record) -> Iterator[str]:
    """Ratios that do not match their numbers."""
    parts = {f"memorisation.{space}": found for space, found in record.memorisation.items()}
    parts |= {"diversity": record.diversity} if record.diversity else {}
    by_class = (record.diversity or {}).get("by_class") or {}
    parts |= {f"diversity.by_class.{name}": found for name, found in by_class.items()}
    if record.motion:
        sides = {name: record.motion[name]["change"] for name in ("generated", "heldout")}
        parts["motion"] = {**sides, "ratio": record.motion["ratio"]}
    for name, found in parts.items():
        made, real, ratio = (found[key] for key in ("generated", "heldout", "ratio"))
        if any(value is not None and value < 0 for value in (made, real, ratio)):
            yield f"{name} holds a distance below 0"
        elif None not in (made, real, ratio) and not is_close(ratio * real, made):
            yield f"{name}.ratio is {ratio:g} and not {made:g} / {real:g}"


def _of_spread(found: Mapping[str, Any], classes: Sequence[str]) -> Iterator[str]:
    by_class = found.get("by_class") or {}
    if not by_class:
        return
    odd = by_class.keys() - {*classes, "all clips"}
    if odd:
        yield f"diversity.by_class is of {shortened(min(odd))}, which is no class of its data"
    lowest = min(entry["ratio"] for entry in by_class.values())
    told = found["lowest"]
    if told["ratio"] != lowest or by_class.get(told["class"], {}).get("ratio") != lowest:
        yield f"diversity.lowest is {told['ratio']:g} and the lowest class is at {lowest:g}"


def _of_motion(found: Mapping[str, Any]) -> Iterator[str]:
    for group in ("generated", "heldout") if found else ():
        part = found[group]
        yield from _not_shares({f"motion.{group}.still": part["still"]})
        low = [name for name in FLICKER.keys() | {"change_deviation"} if (part.get(name) or 0) < 0]
        if low:
            yield f"motion.{group}.{low[0]} is {part[low[0]]:g}"
        elif part["change"] == 0 < (part.get("jerk") or 0):
            yield f"motion.{group} has a jerk and no change"


def _not_shares(values: Mapping[str, float | None]) -> Iterator[str]:
    for name, value in values.items():
        if value is not None and not is_share(value):
            yield f"{name} is {value:g} and not a share in [0, 1]"


def is_share(value: Any) -> bool:
    """Whether a plain value is a number in [0, 1]."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def is_close(told: Any, found: float | None) -> bool:
    """Whether a plain value is the number that was found, but for rounding."""
    if found is None or not isinstance(told, int | float):
        return told is found
    return math.isclose(told, found, rel_tol=ROUNDING, abs_tol=ROUNDING)
