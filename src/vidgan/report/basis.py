"""What has to be equal for two scores to share a column of a comparison."""

from collections.abc import Mapping
from typing import Any

from vidgan.core.settings import differences
from vidgan.evaluation.protocols import PROTOCOLS, protocol_record
from vidgan.evaluation.record_types import GeneratorFacts, Record
from vidgan.report.comparison import known_facts

MADE_FROM = "Made from"
USUAL = (None, "averaged")
"""Which weights of a generator need no word."""


def basis_of(record: Record) -> dict[str, str]:
    """Everything that has to be equal for two scores to stand in one column."""
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
    """What a generator continued or mended: `4 frames`, `grey clips`."""
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
    # Of protocols that differ the names are enough here.
    keys = [key for key in {**first, **other} if key != MADE_FROM]
    return tuple(
        f"{key.lower()} {other.get(key, 'none')} instead of {first.get(key, 'none')}"
        for key in keys
        if first.get(key) != other.get(key)
    )
