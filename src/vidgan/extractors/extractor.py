"""Extractors: from clips to the features and class probabilities that metrics compare.

An extractor is a network, its weights, the layer that is read and the preparation of clips;
`specs.EXTRACTORS` lists them. The judge that is
trained on the user's data (`judge.OwnClassifier`) offers the same `Extractor` interface.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from vidgan.core.clip_ops import fold_time, full_batches, to_float
from vidgan.errors import UserError
from vidgan.extractors.networks import own_c3d, preprocessing
from vidgan.extractors.networks.c3d import C3D, HIDDEN_UNITS, NUM_FRAMES, POOL5_CELLS, Pool5
from vidgan.extractors.networks.i3d import I3D, MIN_FRAMES, NORM_EPSILON, feature_dim
from vidgan.extractors.networks.inception import InceptionV3, pool3_dim, scaled, seeded_weights
from vidgan.extractors.networks.preprocessing import Preprocessing, check_clips
from vidgan.extractors.weights.checking import load_into, shapes_of
from vidgan.extractors.weights.store import (
    StoredWeights,
    WeightSource,
    load_weights,
    weights_fingerprint,
    weights_path,
)

# ------------------------------------------------------------------------------------------------
# Which extractors there are: network, weights, layer and preparation of clips, in one table

PYTORCH_EPSILON = 1e-5
"""Of the class that VideoGPT, DIGAN, TATS and cd-fvd load the converted weights into."""

MAX_EPSILON = 0.01
"""A larger one would change the network instead of guarding against division by 0."""

NO_CLASSES = 2
"""Number of classes of a network whose classes are unused."""


@dataclass(frozen=True, kw_only=True)
class ExtractorSpec:
    """Network, weights and preprocessing of an extractor. Every field affects scores."""

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
            raise UserError(f"{where}: num_classes has no effect if only features are read")

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


# ------------------------------------------------------------------------------------------------
# Extractors: from clips to the features and class probabilities that metrics compare

Arrays = dict[str, Tensor]
"""`features` `[M, F]` and, if the network has classes, `probabilities` `[M, N]`; float32 on the
CPU, a row for every clip. Networks of single frames give `[M, T, F]` and `[M, T, N]`."""

MEAN_WEIGHTS = "c3d-mean"


class Extractor(Protocol):
    """The interface of an extractor."""

    @property
    def name(self) -> str:
        """Name in `EXTRACTORS`, `own-c3d`, or `custom:<hash>`."""

    @property
    def dim(self) -> int:
        """F."""

    @property
    def fingerprint(self) -> str:
        """Hash of the weights."""

    def arrays(self, clips: Tensor) -> Arrays:
        """Features of uint8 clips (or float in [-1, 1]) `[M, C, T, H, W]`, row by row."""

    def record(self) -> dict[str, Any]:
        """Everything that decides the features, as plain values."""


class NetworkExtractor:
    """A published network with its weights.

    Args:
        spec: what it is.
        weights: as loaded, or drawn by `seeded_source`.
        mean: the mean clip's weights, where the preparation subtracts it.
        device: where it runs.
    """

    def __init__(
        self,
        spec: ExtractorSpec,
        weights: StoredWeights,
        mean: StoredWeights | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.spec = spec
        self._weights, self._mean_weights = weights, mean
        self._mean = None if mean is None else mean.tensors["mean"].to(device)
        self._network = build_network(spec)
        load_into(self._network, weights.tensors, weights.source.file)
        place(self._network, device)
        self._device = torch.device(device)

    @property
    def name(self) -> str:
        """As in `Extractor`."""
        return self.spec.identity

    @property
    def dim(self) -> int:
        """F."""
        return self.spec.dim

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights; with a mean clip of both hashes."""
        if self._mean_weights is None:
            return self._weights.fingerprint
        both = self._weights.fingerprint + self._mean_weights.fingerprint
        return hashlib.sha256(both.encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """Everything that decides the features, as plain values."""
        source = self._weights.source
        return {
            "name": self.name,
            "layer": self.spec.layer,
            "dim": self.dim,
            "width": self.spec.width,
            "spec": plain(self.spec),
            "weights_file": source.file,
            "bytes": source.bytes,
            "is_verified": source.is_verified,
            "sha256": self._weights.fingerprint,
            "mean_sha256": self._mean_weights.fingerprint if self._mean_weights else None,
            "fingerprint": self.fingerprint,
        }

    @torch.no_grad()
    def arrays(self, clips: Tensor) -> Arrays:
        """As in `Extractor`.

        Raises:
            UserError: the clips do not fit the network.
        """
        _check_frames(self.spec, clips)
        if clips.shape[0] == 0:
            raise ValueError("there is no clip to extract features from")
        parts: dict[str, list[Tensor]] = {}
        with exact_arithmetic():
            for batch, count in full_batches(clips, self.spec.batch_clips):
                for key, rows in self._read(batch).items():
                    parts.setdefault(key, []).append(rows[:count])
        return {key: torch.cat(rows) for key, rows in parts.items()}

    def _read(self, batch: Tensor) -> Arrays:
        output = self._network(self._prepared(batch.to(self._device)))
        for key in (self.spec.layer, self.spec.probabilities):
            if key is not None and key not in output:
                raise UserError(
                    f"the network {self.spec.network} has no output {key!r}: it gives "
                    f"{', '.join(output)}"
                )
        kept = {"features": output[self.spec.layer]}
        if self.spec.probabilities:
            kept["probabilities"] = output[self.spec.probabilities]
        if self.spec.is_per_frame:
            kept = {key: rows.unflatten(0, (-1, batch.shape[2])) for key, rows in kept.items()}
        return {key: rows.float().cpu() for key, rows in kept.items()}

    def _prepared(self, clips: Tensor) -> Tensor:
        assert self.spec.preprocessing is not None
        x = self.spec.preprocessing.apply(clips, self._mean)
        x = fold_time(x) if self.spec.is_per_frame else x
        return x.contiguous(memory_format=CHANNELS_LAST[x.ndim])


class RandomC3D:
    """The small C3D of the judge with seeded weights, built for the shape of the clips it meets.

    An untrained network gives weak, low-level features, but needs no
    files or labels, and is the same on every machine.

    Args:
        spec: what it is.
        device: where it runs.
    """

    def __init__(self, spec: ExtractorSpec, device: torch.device | str = "cpu") -> None:
        self.spec = spec
        self._device = torch.device(device)
        self._networks: dict[own_c3d.ClipShape, own_c3d.ClipClassifier] = {}

    @property
    def name(self) -> str:
        """As in `Extractor`."""
        return self.spec.identity

    @property
    def dim(self) -> int:
        """F."""
        return self.spec.dim

    @property
    def fingerprint(self) -> str:
        """Hash of the law the weights are drawn from; they also depend on the clips' shape."""
        law = f"random c3d, width {self.spec.width}, seed {self.spec.seed}"
        return hashlib.sha256(law.encode()).hexdigest()

    def record(self) -> dict[str, Any]:
        """Everything that decides the features, as plain values."""
        return {
            "name": self.name,
            "layer": self.spec.layer,
            "dim": self.dim,
            "width": self.spec.width,
            "spec": plain(self.spec),
            "weights_file": f"seed {self.spec.seed}",
            "bytes": None,
            "is_verified": True,
            "sha256": self.fingerprint,
            "mean_sha256": None,
            "fingerprint": self.fingerprint,
        }

    @torch.no_grad()
    def arrays(self, clips: Tensor) -> Arrays:
        """As in `Extractor`; grey clips are taken too."""
        if clips.ndim != 5 or clips.shape[0] == 0:
            raise ValueError(f"clips are [M, C, T, H, W] with M > 0, got {tuple(clips.shape)}")
        c, t, h, w = clips.shape[1:]
        network = self._network((c, t, h, w))
        parts: dict[str, list[Tensor]] = {}
        with exact_arithmetic():
            for batch, count in full_batches(clips, self.spec.batch_clips):
                floats = to_float(batch) if batch.dtype == torch.uint8 else batch.float()
                for key, rows in self._read(network(floats.to(self._device))).items():
                    parts.setdefault(key, []).append(rows[:count].cpu())
        return {key: torch.cat(rows) for key, rows in parts.items()}

    def _read(self, output: own_c3d.ClassifierOutput) -> Arrays:
        arrays = {"features": output.logits if self.spec.layer == "logits" else output.features}
        if self.spec.probabilities:
            arrays["probabilities"] = output.logits.softmax(1)
        return arrays

    def _network(self, shape: own_c3d.ClipShape) -> own_c3d.ClipClassifier:
        if shape not in self._networks:
            network = own_c3d.ClipClassifier(shape, self.spec.num_classes, width=self.spec.width)
            load_into(network, seeded_weights(shapes_of(network), self.spec.seed), "seeded weights")
            self._networks[shape] = network.to(self._device).eval()
        return self._networks[shape]


@contextlib.contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Float32 without TensorFloat-32, and deterministic convolutions."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def plain(spec: ExtractorSpec) -> dict[str, Any]:
    """A spec as JSON keeps it, so that a record that was stored equals a new one."""
    fields: dict[str, Any] = json.loads(json.dumps(asdict(spec)))
    return fields


CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""By the number of axes, the layout in which convolutions take a fifth less time on a CPU."""


def place(network: nn.Module, device: torch.device | str) -> None:
    """Move a network to a device in that layout, for evaluation."""
    network.to(device).eval()
    for parameter in network.parameters():
        if parameter.ndim in CHANNELS_LAST:
            layout = CHANNELS_LAST[parameter.ndim]
            parameter.data = parameter.data.contiguous(memory_format=layout)


def build_network(spec: ExtractorSpec) -> nn.Module:
    """The network of an extractor, before its weights are loaded."""
    if spec.network == "c3d":
        return C3D(spec.num_classes, width=spec.width, pool5=spec.pool5)
    if spec.network == "i3d":
        return I3D(spec.num_classes, width=spec.width, norm_epsilon=spec.norm_epsilon)
    return InceptionV3(spec.num_classes, width=spec.width)


def _check_frames(spec: ExtractorSpec, clips: Tensor) -> None:
    check_clips(clips)
    frames = clips.shape[2]
    if spec.network == "c3d" and frames != NUM_FRAMES:
        raise UserError(
            f"{spec.name} reads clips of exactly {NUM_FRAMES} frames and these have {frames}; "
            f"evaluate clips of {NUM_FRAMES} frames"
        )
    if spec.network == "i3d" and frames < MIN_FRAMES:
        raise UserError(
            f"{spec.name} needs clips of at least {MIN_FRAMES} frames and these have {frames}; "
            "generate longer clips or choose another protocol"
        )


def load_extractor(
    name: str | ExtractorSpec,
    *,
    folder: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> Extractor:
    """Build an extractor and give it its weights.

    Args:
        name: a key of `EXTRACTORS`, or a spec of one's own.
        folder: where converted weights lie; None: `weights.store.weights_folder()`.
        device: where it runs.

    Raises:
        UserError: no such extractor, or its weights were not converted yet, or are damaged.
    """
    spec = find_extractor(name)
    if spec.network == "own-c3d":
        return RandomC3D(spec, device)
    if spec.weights is None:
        return NetworkExtractor(spec, _seeded(spec), None, device)
    weights = load_weights(weights_path(spec.weights, folder))
    needs_mean = spec.preprocessing is not None and spec.preprocessing.mean_corner is not None
    mean = load_weights(weights_path(MEAN_WEIGHTS, folder)) if needs_mean else None
    return NetworkExtractor(spec, weights, mean, device)


def _seeded(spec: ExtractorSpec) -> StoredWeights:
    tensors = seeded_weights(shapes_of(build_network(spec)), spec.seed)
    digest = weights_fingerprint(tensors)
    source = WeightSource(
        file=f"seed {spec.seed}",
        bytes=sum(value.nbytes for value in tensors.values()),
        sha256=digest,
        git_blob="",
        layout="seeded",
        is_verified=True,
    )
    return StoredWeights(f"seed {spec.seed}", tensors, source, digest)
