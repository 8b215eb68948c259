"""What a protocol is: every choice that moves a score, as one frozen record."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vidgan.core.settings import to_dict
from vidgan.errors import UserError
from vidgan.extractors.judge import ClassifierSettings
from vidgan.extractors.specs import ExtractorSpec
from vidgan.metrics.kernel import KernelRule
from vidgan.metrics.manifold import ManifoldRule
from vidgan.metrics.sliced import SlicedSettings

METRICS = {
    "inception_score": "probabilities",
    "frechet_distance": "features",
    "kernel_distance": "features",
    "jedi": "features",
    "manifold": "features",
    "space_time_swd": "clips",
    "psnr": "pairs",
    "ssim": "pairs",
    "lpips": "pairs",
}
"""What each metric is computed from; `manifold` is precision, recall, density and coverage."""

JUDGES = ("own-c3d", "own-ssl")
"""Extractors that are trained on the user's data."""

WITHOUT_NETWORK = (None, *JUDGES, "given")
"""Extractors that no `ExtractorSpec` describes."""

PAIRED = frozenset({"psnr", "ssim", "lpips"})
"""Metrics that need a true clip for every generated one."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How clips become numbers. Whoever changes a field gets `custom:<hash>`."""

    name: str
    """Name under which it is registered."""
    summary: str = ""
    """One line for lists."""
    metrics: tuple[str, ...] = ("inception_score", "frechet_distance", "space_time_swd")
    """Keys of `METRICS`."""
    extractor: str | None
    """`own-c3d`, the judge trained on the user's data; `own-ssl`, one that needs no classes;
    `given`, features that another program stored as .npy files; the name of `network`; or None for
    weight-free scores alone."""
    network: ExtractorSpec | None = None
    """Network, weights, layer and preparation of clips, of any other extractor."""
    given_features: str = ""
    """Which features another program has to store."""
    frame_rule: Literal["one frame", "all frames"] = "one frame"
    """Of networks of single frames: one frame of each clip, chosen by seed, or all of them."""
    frames: int = 0
    """Frames of a clip; 0 takes the generator's."""
    resolution: int = 0
    """Pixels a side of the clips that are compared; 0 takes the generator's."""
    frame_step: int = 1
    """Every so many frames of a clip are shown to the network."""
    clip_rule: str = "central window of every clip"
    """Which frames of a real clip are compared."""
    resize: str = "mean over whole blocks of pixels and frames"
    """How real clips are brought to the generator's size."""
    reference_split: str = "train"
    """Split of the real clips that distances are measured to."""
    quantise: bool = True
    """Whether generated clips are rounded to uint8 first."""
    num_clips: int = 512
    """Generated clips in all."""
    set_size: int = 0
    """Generated clips a set; 0 takes as many as the held-out clips allow."""
    max_groups: int = 4
    """Most sets of generated clips that are scored; their mean and spread are given."""
    reference_size: int = 0
    """Real clips that distances are measured to; 0 takes all that are not in the floor."""
    splits: int = 1
    """Parts of a set whose Inception Scores are averaged."""
    log_guard: float = 0.0
    """Added to the arguments of the logarithms of the Inception Score."""
    covariance_divisor: Literal["n-1", "n"] = "n-1"
    """Of the Frechet distance."""
    allow_few: bool = False
    """Whether a Frechet distance of fewer clips than features is given."""
    kernel: KernelRule = field(default_factory=KernelRule)
    """The kernel distance."""
    manifold: ManifoldRule = field(default_factory=ManifoldRule)
    """Precision, recall, density and coverage."""
    interval_draws: int = 0
    """Draws behind the interval of every score; 0 gives none."""
    extrapolate: bool = False
    """Whether the Frechet distance of infinitely many clips is estimated."""
    max_train_clips: int = 10_000
    """Most training clips that are read; a seeded choice, if there are more."""
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)
    """How the judge is trained."""
    sliced: SlicedSettings = field(default_factory=SlicedSettings)
    """The weight-free distance."""
    source: str = ""
    """The paper or code that it repeats, and what is known to differ."""

    def __post_init__(self) -> None:
        where = f"protocol {self.name}"
        expected = self.network.name if self.network else self.extractor
        if self.extractor != expected or (not self.network and expected not in WITHOUT_NETWORK):
            raise UserError(
                f"{where}: there is no extractor {self.extractor!r}; use own-c3d, own-ssl, given "
                "or none, or the name of the network it holds"
            )
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown or not self.metrics:
            raise UserError(
                f"{where}: there is no metric {', '.join(unknown) or 'at all'}; use "
                f"{', '.join(METRICS)}"
            )
        counts = (self.num_clips, self.splits, self.max_groups, self.max_train_clips)
        if min(counts) < 1:
            raise UserError(
                f"{where}: num_clips, splits, max_groups and max_train_clips must be at least 1"
            )
        if self.frame_step < 1:
            raise UserError(f"{where}: frame_step must be at least 1, got {self.frame_step}")
        least = (self.set_size, self.reference_size, self.interval_draws, self.frames)
        if min(*least, self.resolution) < 0:
            raise UserError(
                f"{where}: set_size, reference_size, interval_draws, frames and resolution must "
                "not be negative"
            )
        if self.set_size > self.num_clips:
            raise UserError(
                f"{where}: set_size={self.set_size} is more than num_clips={self.num_clips}"
            )

    @property
    def identity(self) -> str:
        """The registered name, or `custom:<hash>` once any field differs from it."""
        from vidgan.evaluation.protocols import PROTOCOLS

        if PROTOCOLS.get(self.name) == self:
            return self.name
        text = json.dumps(asdict(self), sort_keys=True)
        return f"custom:{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def is_published(self) -> bool:
        """Whether it rests on weights that the user has to fetch."""
        return self.network is not None and self.network.weights is not None

    def record(self) -> dict[str, Any]:
        """Identity and every field as plain values, as a file gives them back."""
        return {"id": self.identity, **to_dict(self)}


def default_protocol(classes: Sequence[str]) -> str:
    """The protocol that suits data with these classes: own-c3d, or own-ssl without any."""
    return "own-c3d" if len(classes) > 1 else "own-ssl"
