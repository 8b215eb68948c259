"""What an evaluation is told besides source, data and protocol."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

Progress = Callable[[str], None]
"""Told in a few words what happens next."""


def say_nothing(_: str) -> None:
    """The progress of callers who want none."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Seeds, folders and the device of an evaluation; none of them is part of a protocol."""

    checkpoint: str | int = "best"
    """Of a run folder: `best`, `last` or a step."""
    seed: int = 0
    """Of latents, labels, controls and choices of clips."""
    judge_seed: int = 0
    """Of the judge; publish with another one than the one used while developing."""
    cache: str | Path | None = None
    """Folder where judges are kept between calls; None keeps nothing."""
    features: str | Path | None = None
    """Folder where features are kept between calls, so that each set of clips is extracted once;
    None keeps nothing."""
    weights: str | Path | None = None
    """Folder of converted weight files; None takes the one of `vidgan weights`."""
    pictures: str | Path | None = None
    """Folder for a picture of the generated clips that lie nearest to training clips; None writes
    none."""
    device: torch.device | str = "cpu"
    """Where the generator and the judge compute."""
    tell: Progress = say_nothing
    """Told in a few words what happens next."""


DEFAULTS = EvaluationOptions()
