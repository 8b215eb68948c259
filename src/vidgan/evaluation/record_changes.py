"""What differs between a record and the one that its inputs give today, in sentences."""

from collections.abc import Iterator, Mapping
from typing import Any

from vidgan.core.machine import processor_line
from vidgan.evaluation.record import clip_rows
from vidgan.evaluation.record_types import ClipLists

TOLERANCE = 1e-5
"""Relative difference that another machine or number of threads may make."""

SAME_MACHINE = ("machine", "processor", "device", "threads", "vidgan", "python", "torch", "numpy")
"""Parts of a record's `environment` that have to agree for equal bits."""

NOT_COMPARED = frozenset(
    {"schema", "created", "wall_seconds", "environment", "seal", "inputs", "clips"}
)
"""Fields that may differ, or that are compared in a way of their own."""

MAY_MOVE = frozenset(
    {"inputs.source.path", "inputs.source.sha256", "inputs.weights", "inputs.options.device"}
    | {"inputs.data.settings.path", "inputs.data.manifest_sha256"}
)
"""Inputs that may be elsewhere, or that are compared in a way of their own."""

TIMES = "training_cpu_seconds"
"""Key of a judge's card that tells how long something took."""

MAX_NAMED = 5
"""Differences of one field, or clips of one split, that are named one by one."""


def same_machine(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """How two environments differ, a phrase for each part; empty where equal bits are due."""
    return [
        f"{part} {_part(now, part)} instead of {_part(before, part)}"
        for part in SAME_MACHINE
        # Records of earlier versions do not describe the processor.
        if now.get(part) != before.get(part) and (part != "processor" or part in before)
    ]


def _part(environment: Mapping[str, Any], part: str) -> str:
    if part == "processor":
        return processor_line(environment[part])
    return str(environment.get(part))


def value_changes(
    before: Mapping[str, Any], now: Mapping[str, Any], tolerance: float, skipped: frozenset[str]
) -> list[str]:
    """Values of a record that today's differ from.

    Args:
        before: the record.
        now: the one made again.
        tolerance: relative difference of numbers that passes; 0 asks for equal bits.
        skipped: dotted names that are not compared.

    Returns:
        A sentence for each differing value, with both; many of one field are summed up.
    """
    sentences = []
    fields = [name for name in {**before, **now} if name not in NOT_COMPARED | skipped]
    for field in fields:
        found = [
            f"{where} is {_short(old)} in the record and {_short(new)} when computed again"
            for where, old, new in _differences(before.get(field), now.get(field), field)
            if where not in skipped and not _is_close(old, new, tolerance)
        ]
        rest = len(found) - MAX_NAMED
        sentences += found[:MAX_NAMED]
        sentences += [f"{rest} more values of {field} differ"] if rest > 0 else []
    return sentences


def clip_changes(before: ClipLists, now: ClipLists) -> list[str]:
    """Clips that are gone, new, labelled otherwise or that show something else."""
    old, new = (_by_name(lists) for lists in (before, now))
    kinds: dict[tuple[str, str], list[str]] = {}
    for key in {**old, **new}:
        split, name = key
        if key not in new:
            kinds.setdefault((split, "is in the record and not there any more"), []).append(name)
        elif key not in old:
            kinds.setdefault((split, "is there and not in the record"), []).append(name)
        elif len(old[key]) != len(new[key]):
            times = f"stands {len(old[key])} times in the record and {len(new[key])} times there"
            kinds.setdefault((split, times), []).append(name)
        elif [label for label, _ in old[key]] != [label for label, _ in new[key]]:
            kinds.setdefault((split, "has another class than in the record"), []).append(name)
        elif old[key] != new[key]:
            kinds.setdefault((split, "shows other frames than in the record"), []).append(name)
    sentences = []
    for (split, what), names in kinds.items():
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        sentences.append(f"{split} clip {', '.join(names[:MAX_NAMED])}{more}: {what}")
    for split in before:
        names, others = (lists.get(split, {}).get("name", []) for lists in (before, now))
        if names != others and sorted(names) == sorted(others):
            sentences.append(f"the {split} clips stand in another order in the record")
    return sentences


def _by_name(lists: ClipLists) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """By split and name label and checksum of a clip, or of each window if it has several."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for split, name, *values in clip_rows(lists):
        found.setdefault((split, name), []).append((values[0], values[1]))
    return found


def input_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What a record says of its inputs, and of the arithmetic, that is not so.

    Paths and the device may be others, and what `SAME_MACHINE` names decides how much numbers may
    differ; files and weights are compared by name elsewhere.
    """
    may_differ = {f"environment.{part}" for part in SAME_MACHINE} | MAY_MOVE
    return [
        f"{where} is {_short(old)} in the record and {_short(new)} when computed again"
        for field in ("inputs", "environment")
        for where, old, new in _differences(before.get(field), now.get(field), field)
        if not any(where == name or where.startswith(f"{name}.") for name in may_differ)
    ]


def _differences(old: Any, new: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Leaves of two trees of plain values that are not identical."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if key != TIMES:
                yield from _differences(old.get(key), new.get(key), f"{where}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _differences(left, right, f"{where}[{index}]")
    elif old != new:
        yield where, old, new


def _is_close(old: Any, new: Any, tolerance: float) -> bool:
    numbers = [isinstance(value, float) for value in (old, new)]
    return all(numbers) and abs(old - new) <= tolerance * max(abs(old), abs(new))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
