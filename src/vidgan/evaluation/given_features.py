"""Scores of features stored by another program, for networks that are not included here."""

import hashlib
import statistics
from dataclasses import replace

import torch
from torch import Tensor

from vidgan.core.clip_ops import Values, as_tensor
from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.evaluation.extraction import ScoredSet
from vidgan.evaluation.metric import Reference
from vidgan.evaluation.protocols import Protocol, find_protocol, protocol_id, protocol_record
from vidgan.evaluation.record import environment_record, time_stamp
from vidgan.evaluation.record_types import Counts, GeneratorFacts, Record, Score, Seeds
from vidgan.evaluation.score import (
    ScoreFunction,
    extras_of,
    missing_scores,
    refuse_without_scores,
    score_functions,
)
from vidgan.extractors.judge import Extraction
from vidgan.metrics.statistics import feature_pair

MIN_ROWS = 8
"""Fewest rows of either set."""

NARROW = (torch.float16, torch.bfloat16, torch.float32)
"""Types that float32 holds."""


def score_features(
    fake: Values, real: Values, protocol: str | Protocol = "jedi-vjepa-5000", *, seed: int = 0
) -> Record:
    """The scores of a protocol on given features; `feature_store.read_features` reads `.npy` files.

    Args:
        fake: features of generated clips, `[M, F]`; float64 is compared as it is.
        real: features of real clips, `[R, F]`.
        protocol: one whose extractor is `given`. If there are fewer rows than it asks for, the
            protocol becomes a custom one of as many.
        seed: of the choice of rows.

    Returns:
        A record: protocol, counts, scores with their floor (one half of the real features against
        the other), hashes of both arrays, warnings.

    Raises:
        UserError: the protocol extracts features itself, the features do not fit each other, or
            there are too few of them for any score.

    Example:
        >>> import torch
        >>> rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
        >>> record = score_features(rows, rows, "jedi-vjepa-5000")
        >>> record.scores["jedi"].value, record.protocol_id[:7]
        (0.0, 'custom:')
    """
    protocol = find_protocol(protocol)
    fake, real = _checked(fake, real, protocol)
    fake = fake[: protocol.num_clips]
    applied, notes = _with_fewer(protocol, fake.shape[0], real.shape[0])
    n = applied.set_size or min(fake.shape[0], real.shape[0])
    order = torch.randperm(real.shape[0], generator=keyed_rng(seed, "given features"))
    chosen = order[: applied.reference_size or None].sort().values
    everything, reference = _as_set(fake), Reference(_as_set(real[chosen]), n, applied, seed)
    halves = [_as_set(real[rows]) for rows in order.tensor_split(2)]
    functions = score_functions(reference)
    # Whether clips suffice is settled for the sets; a half of the real ones may be too few.
    other_half = Reference(halves[1], n, applied, seed)
    between_halves = {
        key: ScoreFunction.of(function.metric, other_half)(halves[0])
        for key, function in functions.items()
    }
    meaning = f"half of the real features against the other, n = {len(order) // 2}"
    scores = {
        key: replace(
            _score(function, everything, reference),
            floor=between_halves[key],
            floor_meaning=meaning,
        )
        for key, function in functions.items()
    }
    missing = [*filter(None, missing_scores(reference).values())]
    refuse_without_scores(scores, applied, missing)
    dtype = str(fake.dtype).removeprefix("torch.")
    return Record(
        created=time_stamp(),
        protocol=protocol_record(applied),
        counts=Counts(n=n, generated=fake.shape[0], reference=len(chosen)),
        scores=scores,
        features={
            "generated": _hash(fake),
            "real": _hash(real),
            "dim": fake.shape[1],
            "dtype": dtype,
        },
        generator=GeneratorFacts(source="features"),
        seeds=Seeds(evaluation=seed),
        environment=environment_record("cpu") | {"dtype": f"{dtype} features, float64 distances"},
        warnings=(*notes, *missing),
        sentence="features of another program, whose weights and preparation nobody checked "
        "here: comparable as far as that program is",
    )


def _score(function: ScoreFunction, everything: ScoredSet, reference: Reference) -> Score:
    """The mean score over groups of n rows, without its floor."""
    n = reference.n
    num_groups = min(everything.features.shape[0] // n, reference.protocol.max_groups)
    groups = [torch.arange(k * n, (k + 1) * n) for k in range(num_groups)]
    values = [function(everything.take(rows)) for rows in groups]
    extras = extras_of(function, everything, reference, values)
    return Score(
        value=statistics.fmean(values),
        spread=statistics.pstdev(values) if len(values) > 1 else None,
        values=tuple(values),
        n=n,
        better=function.metric.better,
        interval=extras.pop("interval", None),
        extrapolated=extras.pop("extrapolated", None),
        details=extras,
    )


def _checked(fake: Values, real: Values, protocol: Protocol) -> tuple[Tensor, Tensor]:
    """Both sets in the wider of their types: float32, or float64 for all but float32 and halves."""
    if protocol.extractor != "given":
        raise UserError(
            f"protocol {protocol_id(protocol)} extracts features itself: use vidgan evaluate; "
            "those on given features are jedi-vjepa-5000 and cdfvd-videomae-ssv2g"
        )
    given = as_tensor(fake, "the generated features"), as_tensor(real, "the real features")
    rows = feature_pair(*given, ("generated", "real"), fewest=MIN_ROWS)
    is_wide = any(part.dtype not in NARROW for part in given)
    dtype = torch.float64 if is_wide else torch.float32
    return rows[0].to(dtype), rows[1].to(dtype)


def _with_fewer(protocol: Protocol, fake: int, real: int) -> tuple[Protocol, list[str]]:
    """The protocol for as many rows as there are, and a sentence if that changed it."""
    size = min(protocol.set_size, fake)
    reference = min(protocol.reference_size, real)
    if (size, reference) == (protocol.set_size, protocol.reference_size):
        return protocol, []
    num_clips = min(protocol.num_clips, fake)
    applied = replace(protocol, num_clips=num_clips, set_size=size, reference_size=reference)
    sentence = (
        f"{protocol.name} asks for {protocol.set_size} generated and "
        f"{protocol.reference_size or 'all'} real clips, and there are {fake} and {real}: the "
        f"protocol is {protocol_id(applied)}"
    )
    return applied, [sentence]


def _as_set(features: Tensor) -> ScoredSet:
    count = features.shape[0]
    extraction = Extraction(features, torch.zeros(count, 0))
    return ScoredSet(torch.zeros(count, 0), extraction)


def _hash(features: Tensor) -> str:
    digest = hashlib.sha256(repr(tuple(features.shape)).encode())
    digest.update(features.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
