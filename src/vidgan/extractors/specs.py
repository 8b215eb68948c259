"""Which extractors there are: network, weights, layer and preparation of clips, in one table."""

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

from vidgan.errors import UserError
from vidgan.extractors.networks import own_c3d, preprocessing
from vidgan.extractors.networks.c3d import HIDDEN_UNITS, POOL5_CELLS, Pool5
from vidgan.extractors.networks.i3d import NORM_EPSILON, feature_dim
from vidgan.extractors.networks.inception import pool3_dim
from vidgan.extractors.networks.preprocessing import Preprocessing
from vidgan.extractors.networks.widths import scaled

PYTORCH_EPSILON = 1e-5
"""Of the class that VideoGPT, DIGAN, TATS and cd-fvd load the converted weights into."""

MAX_EPSILON = 0.01
"""More would be no guard against a division by 0 but another network."""

NO_CLASSES = 2
"""Classes of a network whose classes nobody reads."""


@dataclass(frozen=True, kw_only=True)
class ExtractorSpec:
    """Which network reads clips, and how. Everything here moves a score."""

    name: str
    """Name under which it is registered."""
    network: Literal["c3d", "i3d", "inception", "own-c3d"]
    layer: str
    """Key of the network's output that serves as features."""
    probabilities: str | None = "probabilities"
    """Key of the class probabilities; None if they mean nothing."""
    weights: str | None
    """Name of published weights in the catalogue, or None: drawn from `seed`."""
    preprocessing: Preprocessing | None
    """From clips to the network's input; None: x / 127.5 - 1 at the clips' own size."""
    num_classes: int
    width: float = 1.0
    """Scale of the network's channel counts; 1 is the published size."""
    pool5: Pool5 = "ceil"
    """Last pooling of the published C3D."""
    norm_epsilon: float = NORM_EPSILON
    """Added to the variances of I3D's batch normalisation."""
    seed: int = 0
    """Of weights that are drawn."""
    batch_clips: int = 4
    """Clips of a pass; the last pass is filled up, so that every clip meets the same shapes, and
    the size of a pass moves no more than the last digit."""

    def __post_init__(self) -> None:
        where = f"extractor {self.name}"
        if self.pool5 != "ceil" and self.network != "c3d":
            raise UserError(f"{where}: only the network c3d has a pool5")
        if self.norm_epsilon != NORM_EPSILON and self.network != "i3d":
            raise UserError(f"{where}: only the network i3d has a norm_epsilon to choose")
        if not 0 < self.norm_epsilon <= MAX_EPSILON:
            raise UserError(
                f"{where}: norm_epsilon must lie in (0, {MAX_EPSILON}], got {self.norm_epsilon}"
            )
        if self.seed and self.weights is not None:
            raise UserError(f"{where}: a seed draws no weights where {self.weights} gives them")
        if self.network != "own-c3d":
            if self.preprocessing is None:
                raise UserError(f"{where}: {self.network} needs a preprocessing of clips")
            return
        for field in ("weights", "preprocessing"):
            if getattr(self, field) is not None:
                raise UserError(
                    f"{where}: own-c3d has drawn weights and reads clips as they are, so {field} "
                    "must be none"
                )
        if self.layer not in ("features", "logits"):
            raise UserError(f"{where}: own-c3d has the layers features and logits")
        if self.probabilities not in (None, "probabilities"):
            raise UserError(f"{where}: own-c3d calls its probabilities 'probabilities', or none")
        if self.num_classes != NO_CLASSES and self.layer == "features" and not self.probabilities:
            raise UserError(f"{where}: num_classes moves nothing where only features are read")

    @property
    def identity(self) -> str:
        """The registered name, or `custom:<hash>` once any field differs from it."""
        if EXTRACTORS.get(self.name) == self:
            return self.name
        return f"custom:{hashlib.sha256(repr(self).encode()).hexdigest()[:8]}"

    @property
    def is_per_frame(self) -> bool:
        """Whether rows of features belong to frames and not to clips."""
        return self.network == "inception"

    @property
    def dim(self) -> int:
        """F."""
        sizes = {
            "own-c3d": {"features": own_c3d.FEATURE_DIM},
            "i3d": {"avg_pool": feature_dim(self.width)},
            "inception": {"pool3": pool3_dim(self.width)},
            "c3d": {
                "pool5": scaled(512, self.width) * POOL5_CELLS,
                **dict.fromkeys(("fc6", "fc7"), scaled(HIDDEN_UNITS, self.width)),
            },
        }[self.network]
        return sizes.get(self.layer.removesuffix("_before_relu"), self.num_classes)


def find_extractor(name: str | ExtractorSpec) -> ExtractorSpec:
    """The registered extractor of this name; a spec is passed through.

    Raises:
        UserError: no such name.
    """
    if isinstance(name, ExtractorSpec):
        return name
    if name not in EXTRACTORS:
        raise UserError(f"there is no extractor {name!r}; choose one of {', '.join(EXTRACTORS)}")
    return EXTRACTORS[name]


_C3D_TGAN = ExtractorSpec(
    name="c3d-tgan-fc6",
    network="c3d",
    layer="fc6",
    weights="c3d-ucf101",
    preprocessing=preprocessing.C3D_TGAN,
    num_classes=101,
)
_I3D = ExtractorSpec(
    name="i3d-tf",
    network="i3d",
    layer="logits",
    weights="i3d-k400",
    preprocessing=preprocessing.I3D_TF,
    num_classes=400,
)
_INCEPTION = ExtractorSpec(
    name="inception-tf",
    network="inception",
    layer="pool3",
    probabilities="probabilities_without_bias",
    weights="inception-2015",
    preprocessing=preprocessing.INCEPTION_TF,
    num_classes=1008,
)

EXTRACTORS: dict[str, ExtractorSpec] = {
    spec.name: spec
    for spec in (
        _C3D_TGAN,
        replace(
            _C3D_TGAN,
            name="c3d-tgan2-fc7",
            layer="fc7",
            preprocessing=preprocessing.C3D_TGAN2,
        ),
        _I3D,
        replace(_I3D, name="i3d-stretch", preprocessing=preprocessing.I3D_STRETCH),
        replace(
            _I3D,
            name="i3d-stretch-pytorch",
            preprocessing=preprocessing.I3D_STRETCH,
            norm_epsilon=PYTORCH_EPSILON,
        ),
        replace(
            _I3D,
            name="i3d-crop",
            preprocessing=preprocessing.I3D_CROP,
            norm_epsilon=PYTORCH_EPSILON,
        ),
        replace(
            _I3D,
            name="i3d-k600",
            layer="avg_pool",
            weights="i3d-k600",
            preprocessing=preprocessing.I3D_STRETCH,
            num_classes=600,
        ),
        _INCEPTION,
        replace(_INCEPTION, name="inception-clean", preprocessing=preprocessing.INCEPTION_CLEAN),
        replace(
            _I3D,
            name="random-i3d-64",
            layer="avg_pool",
            probabilities=None,
            weights=None,
            preprocessing=preprocessing.I3D_STRETCH,
            width=1 / 16,
        ),
        ExtractorSpec(
            name="random-c3d",
            network="own-c3d",
            layer="features",
            probabilities=None,
            weights=None,
            preprocessing=None,
            num_classes=NO_CLASSES,
            width=0.25,
            batch_clips=32,
        ),
    )
}
"""Every extractor that needs no training, by name. `c3d-*` and `i3d-tf` repeat the pipelines of
the codes they are named after, down to the resize; see `networks.preprocessing`."""
