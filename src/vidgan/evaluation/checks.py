"""Limits of the diagnostics beside the scores, and the warnings beyond them.

Real clips stay within every limit; docs/metrics.md gives the reasons.
"""

from collections.abc import Mapping, Sequence
from math import exp, hypot, lgamma, sqrt
from pathlib import Path
from typing import Any

from torch import Tensor

from vidgan.errors import UserError
from vidgan.evaluation.metric import Protocol, find_metric
from vidgan.evaluation.protocols import protocol_id
from vidgan.evaluation.record_types import GeneratorFacts
from vidgan.extractors.extractor import MEAN_WEIGHTS
from vidgan.extractors.weights.store import weights_path
from vidgan.metrics.intervals import AttributeGrid
from vidgan.metrics.memorisation import CHANGES, LEAST_DISTANCE, QUANTILE

# ------------------------------------------------------------------------------------------------
# Refusing what a protocol cannot compare, before anything is generated or extracted


def check_protocol(protocol: Protocol, weights: str | Path | None = None) -> None:
    """Refuse protocols that `evaluate` does not serve, or whose weights are not there.

    Args:
        protocol: as it is applied.
        weights: folder of converted weights; None takes the user's.

    Raises:
        UserError: as described.
    """
    name, network = protocol_id(protocol), protocol.network
    if any(find_metric(key).needs == "pairs" for key in protocol.metrics):
        raise UserError(
            f"protocol {name} compares clips with their true continuation: use vidgan predict"
        )
    if protocol.extractor == "given":
        raise UserError(
            f"protocol {name} compares features that another program stored "
            f"({protocol.given_features}): use vidgan.evaluation.given_features.score_features"
        )
    if network is None or network.weights is None:
        return
    needs_mean = network.preprocessing is not None and network.preprocessing.mean_corner is not None
    for file in [network.weights, *([MEAN_WEIGHTS] if needs_mean else [])]:
        path = weights_path(file, weights)
        if not path.exists():
            raise UserError(
                f"protocol {name} needs the published weights {file}, and there is no {path}: "
                "'vidgan weights list' says where to get the file and under which terms, "
                "'vidgan weights convert FILE' puts it there"
            )


def check_clip_shape(protocol: Protocol, shape: Sequence[int]) -> None:
    """Refuse clips of another length or size than the protocol compares.

    Args:
        protocol: as it is applied.
        shape: (C, T, H, W) of the clips.

    Raises:
        UserError: as described.
    """
    name, (_, frames, height, width) = protocol_id(protocol), shape
    if protocol.frames and frames != protocol.frames:
        raise UserError(
            f"protocol {name} compares clips of {protocol.frames} frames and these have {frames}: "
            "take a generator of that length, or another protocol"
        )
    if protocol.resolution and (height, width) != (protocol.resolution,) * 2:
        raise UserError(
            f"protocol {name} compares clips of {protocol.resolution}x{protocol.resolution} pixels "
            f"and these have {height}x{width}: take a generator of that size, or another protocol"
        )


def check_real_clips(protocol: Protocol, num_train: int, clip_rule: str) -> None:
    """Refuse real clips that were not chosen as the protocol says.

    Args:
        protocol: as it is applied.
        num_train: training clips.
        clip_rule: which frames of longer stored clips they are.

    Raises:
        UserError: as described.
    """
    if clip_rule != protocol.clip_rule:
        raise UserError(
            f"protocol {protocol_id(protocol)} has clip_rule={protocol.clip_rule!r} and these real "
            f"clips are the {clip_rule}: gather them under this protocol"
        )
    if 0 < protocol.max_train_clips < num_train:
        raise UserError(
            f"protocol {protocol_id(protocol)} has max_train_clips={protocol.max_train_clips} and "
            f"these are {num_train}: gather them under this protocol"
        )


# ------------------------------------------------------------------------------------------------
# Limits of the diagnostics beside the scores, and the warnings beyond them

HALF_WAY = 0.5
"""Required agreement, from chance (0) to real clips (1): below it more clips ignore
the requested class than follow it."""

LEAST_SPREAD = 0.5
"""Limits of within-class spread over that of real clips: real sets lie within a twentieth of 1, one
clip a class at 0 (benchmarks/limits.py)."""

MOTION_FACTOR = 1.25
"""Factor by which generated clips may change more or less than real ones: sets of real clips differ
by a twentieth, and frames in random order change 1.4 to 3 times as much (benchmarks/limits.py)."""

STILL_SHARE = 0.2
"""Allowed difference of the shares of still clips: 4 standard errors of a share of 100 clips."""

CERTAIN = 4.0
"""Standard errors that a difference must exceed, to avoid false alarms on small sets."""

LOST_SHARE = 0.25
"""Of its share among real clips: a class shown less often is lost, whatever the judge confuses."""

LEAST_CHANCE = 1e-3
"""Of accusing a set of real clips, over all classes; copies are held to the same."""

NEGLIGIBLE = 1e-18
"""Share of a sum below which further terms, which shrink, no longer change it."""

MIN_CLIPS_OF_CLASS = 16
"""Minimum clips for per-class checks: fewer scatter by more than the limits."""

MAX_NAMED = 3
"""Number of classes named in one sentence."""

FLICKER = {"change": "change from frame to frame", "jerk": "change of that change"}
"""Motion statistics that have a limit, by name."""


def check_warnings(
    beside: Mapping[str, Any],
    classes: Sequence[str],
    labels: Tensor | None,
    sizes: tuple[int, int],
    generator: GeneratorFacts,
) -> list[str]:
    """Warnings about diagnostics that exceed their limits.

    Args:
        beside: `agreement`, `memorisation`, `diversity` and `motion` of a record.
        classes: names of the data's classes.
        labels: classes that the generated clips should show, int64 `[M]`; None where they are not
            known, and single classes are not looked at.
        sizes: generated and held-out clips.
        generator: where the clips came from.
    """
    counts = [] if labels is None else labels.bincount(minlength=len(classes)).tolist()
    large = {
        name for name, count in zip(classes, counts, strict=False) if count >= MIN_CLIPS_OF_CLASS
    }
    return [
        *agreement_warnings(beside["agreement"] or {}, classes, large),
        *lost_class_warnings((beside["agreement"] or {}).get("shown") or {}),
        *spread_warnings(beside["diversity"] or {}, large),
        *repeat_warnings(beside["memorisation"]),
        # What continues a held-out clip ought to come near it.
        *([] if generator.given_frames else heldout_warnings(beside["memorisation"])),
        *memorisation_warnings(beside["memorisation"]),
        *motion_warnings(beside["motion"] or {}, sizes),
    ]


def agreement_warnings(
    found: Mapping[str, Any], classes: Sequence[str], large: set[str]
) -> list[str]:
    """Warnings about requested classes, or parts of them, that are not shown.

    Args:
        found: `generated`, `heldout` and both by class; see `metrics.agreement`.
        classes: names.
        large: classes with enough generated clips to be looked at alone.
    """
    sentences = []
    generated, heldout = found.get("generated") or {}, found.get("heldout") or {}
    chances = chances_of(classes)
    low = [
        part
        for part, share in generated.items()
        if share is not None and share < _half_way(chances[part], heldout[part])
    ]
    # A missing part explains the missing class.
    for part in [part for part in low if part != "joint"] or low:
        sentences.append(
            f"the judge sees the asked {'class' if part == 'joint' else part} in "
            f"{generated[part]:.0%} of the generated clips and in {heldout[part]:.0%} of real ones "
            f"({chances[part]:.0%} by chance): the generator does not show what it is asked for"
        )
    if sentences:
        return sentences
    by_class, real_by_class = (found.get(f"{n}_by_class") or {} for n in ("generated", "heldout"))
    lost = {
        name: share
        for name, share in by_class.items()
        if name in large
        and share
        < _half_way(
            chances["joint"], min(heldout["joint"], real_by_class.get(name, heldout["joint"]))
        )
    }
    if lost:
        sentences.append(
            f"the judge hardly ever sees the asked class where that is {_named(lost)}: the "
            "generator does not show it"
        )
    return sentences


def lost_class_warnings(shown: Mapping[str, Mapping[str, int]]) -> list[str]:
    """A sentence on classes that generated clips, asked for none, show too seldom.

    Args:
        shown: by `generated` and `heldout`, clips that the judge assigns to each class.
    """
    if not shown:
        return []
    fake, real = shown["generated"], shown["heldout"]
    num_fake, num_real = sum(fake.values()), sum(real.values())
    lost = {
        name: fake[name] / num_fake
        for name in real
        if fake[name] / num_fake < LOST_SHARE * real[name] / num_real
        and chance_of_so_few(fake[name], real[name], num_fake, num_real) < LEAST_CHANCE / len(real)
    }
    if not lost:
        return []
    return [
        (
            f"of the generated clips the judge assigns to {_named(lost)}, less than a quarter of "
            "the share of real ones: the generator has lost classes"
        )
    ]


def chance_of_so_few(few: int, others: int, num_few: int, num_others: int) -> float:
    """How likely `few` or less of few + others marked clips fall among `num_few` of all by chance.

    (Fisher's exact test, one side.) Below what is expected terms shrink from the last one down, so
    that sets of any size take a moment; above it the rest to 1 is summed.
    """
    marked, total = few + others, num_few + num_others
    if few * total > marked * num_few:
        return 1 - chance_of_so_few(others - 1, few + 1, num_others, num_few) if others else 1.0
    plain = total - marked
    logs = _log_ways(marked, few) + _log_ways(plain, num_few - few) - _log_ways(total, num_few)
    term, found = exp(logs), 0.0
    for k in range(few, -1, -1):
        found += term
        if term <= NEGLIGIBLE * found:
            break
        term *= k * (plain - num_few + k) / ((marked - k + 1) * (num_few - k + 1))
    return found


def _log_ways(total: int, chosen: int) -> float:
    """The logarithm of the number of ways to choose `chosen` of `total`."""
    return lgamma(total + 1) - lgamma(chosen + 1) - lgamma(total - chosen + 1)


def _half_way(chance: float, real: float) -> float:
    return chance + HALF_WAY * (real - chance)


def chances_of(classes: Sequence[str]) -> dict[str, float]:
    """By part of a class that a judge may agree on, the share that chance gives."""
    chances = {"joint": 1 / len(classes)} if classes else {}
    grid = AttributeGrid.of(classes)
    if grid is not None:
        chances |= {"object": 1 / len(grid.objects), "motion": 1 / len(grid.motions)}
    return chances


def spread_warnings(found: Mapping[str, Any], large: set[str]) -> list[str]:
    """Warnings about sets or classes whose clips differ less or more than real ones do.

    Args:
        found: from `compare_spread`.
        large: classes with enough generated clips to be looked at alone.
    """
    if not found:
        return []
    ratio, by_class = found["ratio"], found.get("by_class") or {}
    who = "generated clips of one class" if len(by_class) > 1 else "generated clips"
    if ratio < LEAST_SPREAD:
        return [
            (
                f"{who} differ from each other {ratio:.2f} times as much as "
                "real ones do: the generator repeats a few clips"
            )
        ]
    if ratio > 1 / LEAST_SPREAD:
        return [
            (
                f"{who} differ from each other {ratio:.1f} times as much as "
                "real ones do: its classes are mixed, or its clips fall apart"
            )
        ]
    alike = {
        name: entry["ratio"]
        for name, entry in by_class.items()
        if name in large and entry["ratio"] < LEAST_SPREAD
    }
    if not alike:
        return []
    return [
        (
            f"generated clips differ less than half as much as real ones do in {_named(alike)}: "
            "the generator repeats a few clips there"
        )
    ]


def repeat_warnings(found: Mapping[str, Any]) -> list[str]:
    """A warning about duplicates among the generated clips.

    Args:
        found: of a record's `memorisation`, with what `compare_repeats` gives.
    """
    repeats = found.get("thumbnails", {}).get("repeats")
    if repeats is None or repeats["share"] <= repeats["limit"]:
        return []
    return [
        (
            f"{repeats['share']:.1%} of the generated clips are copies of another generated clip "
            f"({repeats['real']:.1%} of real ones are): the generator repeats clips, or they were "
            "stored more than once"
        )
    ]


def heldout_warnings(found: Mapping[str, Any]) -> list[str]:
    """A warning about generated clips that are held-out clips.

    Args:
        found: of a record's `memorisation`, with what `compare_repeats` gives.
    """
    plain = found.get("thumbnails", {})
    copies, same = (plain.get(name) for name in ("heldout_copies", "heldout_repeats"))
    seen = "whatever made them has seen the clips that it is compared with"
    if same is not None and same["share"] > same["limit"]:
        return [
            (
                f"{same['share']:.1%} of the generated clips are held-out clips "
                f"({same['real']:.1%} of training clips are, with {_changes()}): {seen}"
            )
        ]
    if has_copies(plain, "heldout_copies"):
        return [
            (
                f"{copies['share']:.1%} of the generated clips lie nearer to a held-out clip than "
                f"{1 - QUANTILE:.0%} of the training clips do (with {_changes()}), and chance "
                f"explains {copies['limit']:.1%}: {seen}"
            )
        ]
    return []


def memorisation_warnings(found: Mapping[str, Any]) -> list[str]:
    """Warnings about copies of training clips, and about data in which copies cannot be detected.

    Args:
        found: by space what `compare_nearest` gives, and `copies` from `share_of_copies`.
    """
    plain = found.get("thumbnails")
    if plain is not None and (plain.get("copies") or {}).get("threshold") == 0:
        return [
            (
                "held-out clips equal training clips, so that no generated clip can be told from a "
                "copy: take clips that occur twice out of the data ('vidgan data check' names them)"
            )
        ]
    copied = {space: entry["copies"] for space, entry in found.items() if has_copies(entry)}
    if copied:
        space = max(copied, key=lambda name: copied[name]["share"])
        share, limit = copied[space]["share"], copied[space]["limit"]
        return [
            (
                f"{share:.1%} of the generated clips lie nearer to a training clip than "
                f"{1 - QUANTILE:.0%} of the held-out clips do ({space}, with {_changes()}), and "
                f"chance explains {limit:.1%}: the generator repeats training clips"
            )
        ]
    near = {s: e["ratio"] for s, e in found.items() if e["ratio"] is not None}
    return [
        f"generated clips lie {ratio:.2f} times as far from the nearest training clip as held-out "
        f"clips do ({space}): look for copies of training clips"
        for space, ratio in near.items()
        if ratio < LEAST_DISTANCE
    ]


def has_copies(found: Mapping[str, Any], of: str = "copies") -> bool:
    """Whether more clips are near training or held-out clips than chance explains."""
    copies = found.get(of)
    return copies is not None and bool(copies["share"] > copies["limit"])


def _changes() -> str:
    plain = [name for name in CHANGES if name != "unchanged" and not name.startswith("shifted")]
    return f"{', '.join(plain)} and shifted copies among them"


def motion_warnings(found: Mapping[str, Any], sizes: tuple[int, int]) -> list[str]:
    """Warnings about clips that change more or less from frame to frame than real ones do.

    Args:
        found: from `compare_motion`.
        sizes: generated and held-out clips.
    """
    if not found:
        return []
    fake, real = found["generated"], found["heldout"]
    sentences = []
    for key, title in FLICKER.items():
        # Records of earlier versions do not hold all of them.
        told = [part.get(name) for part in (fake, real) for name in (key, "change_deviation")]
        if None in told or not _differs(fake, real, key, sizes):
            continue
        fault = "flicker, or their frames are out of order"
        if fake[key] < real[key]:
            fault = "hardly move"
        sentences.append(
            f"the {title} of generated clips is {fake[key]:.3g} and of real ones {real[key]:.3g} "
            f"(0 to 255): they {fault}"
        )
        break
    still = fake["still"] - real["still"]
    if abs(still) > STILL_SHARE:
        sentences.append(
            f"{fake['still']:.0%} of the generated clips stand still and {real['still']:.0%} of "
            "real ones"
        )
    return sentences


def _differs(
    fake: Mapping[str, float], real: Mapping[str, float], key: str, sizes: tuple[int, int]
) -> bool:
    """Whether a statistic exceeds its factor by more than sampling noise."""
    low, high = sorted((fake[key], real[key]))
    if high <= MOTION_FACTOR * low:
        return False
    parts = zip((fake, real), sizes, strict=True)
    error = hypot(*(part["change_deviation"] / sqrt(num) for part, num in parts))
    relative = error / max(fake["change"], real["change"])
    return high - low > CERTAIN * relative * high


def _named(found: Mapping[str, float]) -> str:
    worst = sorted(found, key=lambda name: found[name])
    named = ", ".join(f"{name} ({found[name]:.0%})" for name in worst[:MAX_NAMED])
    more = len(worst) - MAX_NAMED
    return named + (f" and {more} more" if more > 0 else "")
