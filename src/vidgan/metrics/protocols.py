"""Protocols: frozen, named records of everything that moves a score.

A score may stand beside another only if both have the same protocol, number of clips, judge and
reference. Whoever changes a field gets a protocol named `custom:<hash>`; seeds are no part of it.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vidgan.errors import UserError
from vidgan.metrics.own_classifier import ClassifierSettings
from vidgan.metrics.sliced import SlicedSettings


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How clips become numbers."""

    name: str
    """Name under which it is registered."""
    extractor: str | None
    """`own-c3d`, the judge trained on the user's data, `own-ssl`, the same without labels, or None
    for weight-free scores alone."""
    layer: str = "penultimate, after ReLU"
    """Features of the Frechet distance."""
    clip_rule: str = "central window of every clip"
    """Which frames of a real clip are compared."""
    resize: str = "mean over whole blocks of pixels and frames"
    """How real clips are brought to the generator's size."""
    quantise: bool = True
    """Whether generated clips are rounded to uint8 first."""
    value_map: str = "x / 127.5 - 1"
    """From uint8 to the judge's input."""
    channel_order: str = "RGB"
    num_clips: int = 512
    """Generated clips. Scores use groups of n of them, n as the held-out clips allow."""
    splits: int = 1
    """Parts of a group whose Inception Scores are averaged."""
    max_groups: int = 4
    """Most groups of n generated clips that are scored; their spread is given."""
    max_train_clips: int = 10_000
    """Most training clips that are read; a seeded choice, if there are more."""
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)
    """How the judge is trained."""
    sliced: SlicedSettings = field(default_factory=SlicedSettings)
    """The weight-free distance."""

    def __post_init__(self) -> None:
        if self.extractor not in (None, "own-c3d", "own-ssl"):
            raise UserError(
                f"there is no extractor {self.extractor!r}; use own-c3d, own-ssl or none"
            )
        if min(self.num_clips, self.splits, self.max_groups, self.max_train_clips) < 1:
            raise UserError(
                "num_clips, splits, max_groups and max_train_clips of a protocol must be at least 1"
            )

    @property
    def identity(self) -> str:
        """The registered name, or `custom:<hash>` once any field differs from it."""
        if PROTOCOLS.get(self.name) == self:
            return self.name
        text = json.dumps(asdict(self), sort_keys=True)
        return f"custom:{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def record(self) -> dict[str, Any]:
        """Identity and every field as plain values."""
        return {"id": self.identity, **asdict(self)}


PROTOCOLS: dict[str, Protocol] = {
    "own-c3d": Protocol(name="own-c3d", extractor="own-c3d"),
    "own-ssl": Protocol(
        name="own-ssl",
        extractor="own-ssl",
        # One of the two questions answered three times out of four is enough.
        classifier=ClassifierSettings(task="changes", gate_multiple=3.0),
    ),
    "stswd": Protocol(name="stswd", extractor=None),
}


def default_protocol(classes: Sequence[str]) -> str:
    """The protocol that suits data with these classes: own-c3d, or own-ssl without any."""
    return "own-c3d" if len(classes) > 1 else "own-ssl"


def find_protocol(name: str | Protocol) -> Protocol:
    """The registered protocol of this name; a `Protocol` is passed through.

    Raises:
        UserError: no such name.
    """
    if isinstance(name, Protocol):
        return name
    if name not in PROTOCOLS:
        known = ", ".join(sorted(PROTOCOLS))
        raise UserError(f"there is no evaluation protocol {name!r}; choose one of {known}")
    return PROTOCOLS[name]
