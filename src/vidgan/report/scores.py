"""Evaluation records as the tables of a page."""

from vidgan.evaluation.metric import metric_title
from vidgan.evaluation.record_types import Record, Score
from vidgan.metrics.memorisation import QUANTILE
from vidgan.report.page import ScoreRow, Scores

MAX_TABLES = 3


def tables_of_records(records: list[Record]) -> list[Scores]:
    """One table for each of the newest records, given the newest first."""
    return [table_of_record(record) for record in records[:MAX_TABLES]]


def table_of_record(record: Record) -> Scores:
    """The table of one record: every score with its real reference, floor and controls."""
    step = record.generator.step
    counts = record.counts
    rows = [score_row(key, score) for key, score in record.scores.items()]
    return {
        "title": "" if step is None else f"Checkpoint of step {step:,}",
        "protocol": record.protocol_id,
        "num_generated": counts.generated,
        "num_real": counts.heldout or 0,
        "num_per_set": counts.n,
        "note": " ".join([*(f"Warning: {said}." for said in record.warnings), record.sentence]),
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
