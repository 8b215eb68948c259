"""Evaluation records as the tables of a page."""

from collections.abc import Mapping, Sequence
from typing import Any

from vidgan.core.settings import differences
from vidgan.evaluation.metric import metric_title
from vidgan.evaluation.protocols import PROTOCOLS, protocol_record
from vidgan.evaluation.record_types import GeneratorFacts, Record, Score
from vidgan.metrics.memorisation import QUANTILE
from vidgan.report.comparison import known_facts
from vidgan.report.page import ScoreRow, ScoreTable

# ------------------------------------------------------------------------------------------------
# What must be equal for two scores to share a column of a comparison

MADE_FROM = "Made from"
USUAL = (None, "averaged")
"""Weights that are not mentioned in tables."""


def basis_of(record: Record) -> dict[str, str]:
    """Everything that must be equal for two scores to share a column."""
    counts, data, extractor = record.counts, record.data, record.extractor or {}
    details = record.generator.details
    facts = {
        "Protocol": record.protocol_id,
        MADE_FROM: origin_of(record.protocol),
        "Clips a set": counts.n,
        "Generated clips": counts.generated,
        "Held-out clips": counts.heldout,
        "Training clips": counts.train,
        "Reference clips": counts.reference,
        "Predictions a clip": counts.samples,
        "Clip": None if data is None else f"{data.frames}x{data.height}x{data.width}",
        "Real clips": (record.features or {}).get("real") if data is None else data.hash,
        "Judge": record.judge_hash,
        # The fingerprint covers the mean clip of C3D too.
        "Weights": _short(extractor.get("fingerprint") or extractor.get("sha256")),
        "LPIPS": _short((record.perceptual or {}).get("fingerprint")),
        "Given": _given(record.generator),
        "Hidden box": None if record.mask is None else list(record.mask),
        "Truncation": details.get("truncation"),
        "Weights of the generator": None if details.get("weights") in USUAL else details["weights"],
        "Seed of the evaluation": record.seeds.evaluation,
    }
    return known_facts(facts)


def _given(generator: GeneratorFacts) -> str | None:
    """What a generator continued or restored: `4 frames`, `grey clips`."""
    num_frames, kind = generator.given_frames, generator.given or "frames"
    if not num_frames:
        return None
    if kind != "frames":
        return str(kind)
    return f"{num_frames} frame{'s' if num_frames > 1 else ''}"


def _short(digest: str | None) -> str | None:
    """As many hex digits as the other hashes of a record have."""
    return digest[:16] if digest else None


def origin_of(protocol: Mapping[str, Any]) -> str | None:
    """The registered protocol that a custom one was changed from, and how; None for any other."""
    known = PROTOCOLS.get(protocol.get("name", ""))
    if known is None or not protocol["id"].startswith("custom:"):
        return None
    changed = differences(protocol_record(known), protocol)
    words = [f"{item.key}={item.second}" for item in changed if item.key != "id"]
    return f"{known.name} with {', '.join(words)}"


def sentences_on(first: Mapping[str, str], other: Mapping[str, str]) -> tuple[str, ...]:
    """How one basis differs from another, field by field."""
    # For different protocols the names suffice here.
    keys = [key for key in {**first, **other} if key != MADE_FROM]
    return tuple(
        f"{key.lower()} {other.get(key, 'none')} instead of {first.get(key, 'none')}"
        for key in keys
        if first.get(key) != other.get(key)
    )


# ------------------------------------------------------------------------------------------------
# Evaluation records as the tables of a page


def table_of_record(record: Record, marks: Sequence[str] = ()) -> ScoreTable:
    """The table of one record: every score with its real reference, floor and controls.

    Args:
        record: the record.
        marks: reasons why it may have been edited.
    """
    step = record.generator.step
    counts = record.counts
    rows = [score_row(key, score) for key, score in record.scores.items()]
    return {
        "title": "" if step is None else f"Checkpoint of step {step:,}",
        "protocol": record.protocol_id,
        "num_generated": counts.generated,
        "num_real": counts.heldout or 0,
        "num_per_set": counts.n,
        "note": " ".join(
            [*(f"Warning: {said}." for said in (*marks, *record.warnings)), record.sentence]
        ),
        "rows": [
            *rows,
            *agreement_rows(record),
            *spread_rows(record),
            *memorisation_rows(record),
        ],
    }


def score_row(key: str, score: Score) -> ScoreRow:
    """The row of one score."""
    return {
        "metric": metric_title(key),
        "better": score.better,
        "value": score.value,
        "spread": score.spread,
        "real": score.real,
        "floor": score.floor,
        "controls": score.controls,
    }


def agreement_rows(record: Record) -> list[ScoreRow]:
    """How often the judge sees the class that was asked for, beside the same for real clips."""
    found = record.agreement or {}
    generated, heldout = found.get("generated") or {}, found.get("heldout") or {}
    return [
        {
            "metric": f"Judged as the asked {'class' if part == 'joint' else part}",
            "better": "higher",
            "value": share,
            "real": heldout.get(part),
            "percent": True,
        }
        for part, share in generated.items()
        if share is not None
    ]


def spread_rows(record: Record) -> list[ScoreRow]:
    """Spread inside classes and change from frame to frame, beside those of real clips."""
    rows: list[ScoreRow] = []
    spread, motion = record.diversity, record.motion
    if spread:
        lowest = spread["lowest"]
        rows.append(
            {
                "metric": f"Spread inside classes (lowest: {lowest['ratio']:.0%} of real, "
                f"{lowest['class']})",
                "value": spread["generated"],
                "real": spread["heldout"],
            }
        )
    if motion:
        rows.append(
            {
                "metric": "Change from frame to frame (0 to 255)",
                "value": motion["generated"]["change"],
                "real": motion["heldout"]["change"],
            }
        )
    return rows


def memorisation_rows(record: Record) -> list[ScoreRow]:
    """Median distance to the nearest training clip, beside that of unseen real clips, and the share
    that lies nearer than real clips do."""
    rows: list[ScoreRow] = []
    for space, found in record.memorisation.items():
        rows.append(
            {
                "metric": f"Distance to the nearest training clip ({space})",
                "value": found["generated"],
                "real": found["heldout"],
            }
        )
        if copies := found.get("copies"):
            rows.append(
                {
                    "metric": f"As near to a training clip as the nearest real ones ({space}; "
                    f"chance explains {copies['limit']:.1%})",
                    "better": "lower",
                    "value": copies["share"],
                    "real": QUANTILE,
                    "percent": True,
                }
            )
    return rows
