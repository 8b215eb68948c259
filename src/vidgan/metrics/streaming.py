"""Metrics that see their features batch by batch: `update`, `compute`, `reset`, and `gathered`.

Each is the streamed form of a function of this package, which stays the definition: fed with the
same rows in the same order, in one batch or in many, on one process or on several, `compute` gives
what the function gives. Distances of moments keep float64 sums alone; the others keep float32 rows.

    metric = FrechetDistance()
    for batch in batches:
        metric.update(features(batch), real=False)
    metric.gathered(processes).compute()
"""

from abc import ABC, abstractmethod
from copy import copy
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from vidgan.core.distributed import Processes
from vidgan.metrics.frechet import FrechetResult, frechet_from_statistics
from vidgan.metrics.image_quality import psnr, ssim
from vidgan.metrics.inception_score import inception_score
from vidgan.metrics.kernel import KernelResult, KernelRule, jedi_from_moments, kernel_distance
from vidgan.metrics.manifold import ManifoldResult, ManifoldRule, manifold_metrics
from vidgan.metrics.prediction import FrameMetric
from vidgan.metrics.statistics import FeatureStatistics


class Mergeable(Protocol):
    """What a metric has gathered so far."""

    def merge(self, other: Self, /) -> Self:
        """Both together, the other's rows behind these."""


State = TypeVar("State", bound=Mergeable)


class StreamedMetric(ABC, Generic[State]):
    """Base of the metrics below: states by name, which merge."""

    names: tuple[str, ...] = ("fake", "real")

    def __init__(self) -> None:
        self._states: dict[str, State] = {}

    @abstractmethod
    def compute(self) -> Any:
        """The value of everything seen so far."""

    def reset(self) -> None:
        """Forget everything seen."""
        self._states = {}

    def merge(self, other: Self) -> None:
        """Take in what another metric of the same kind has seen, behind what this one has."""
        for name, state in other._states.items():
            self._add(name, state)

    def gathered(self, processes: Processes) -> Self:
        """A metric that has seen the rows of all processes, by rank; all of them have to call.

        Every process gets the same bits, since all merge in the same order.
        """
        total = copy(self)
        total.reset()
        shares: list[dict[str, State]] = [self._states] * processes.count
        if processes.count > 1:
            dist.all_gather_object(shares, self._states)
        for share in shares:
            for name, state in share.items():
                total._add(name, state)
        return total

    def _add(self, name: str, state: State) -> None:
        """Put a state behind the one of that name."""
        present = self._states.get(name)
        self._states[name] = state if present is None else present.merge(state)

    def _both(self) -> tuple[State, State]:
        missing = [name for name in self.names if name not in self._states]
        if missing:
            raise ValueError(
                f"{type(self).__name__} has seen no {' and no '.join(missing)} features; call "
                "update before compute"
            )
        fake, real = (self._states[name] for name in self.names)
        return fake, real


class Rows:
    """Rows that are kept, `[M, F]`, as float32 on the CPU."""

    def __init__(self, parts: tuple[Tensor, ...]) -> None:
        self.parts = parts

    @classmethod
    def of(cls, rows: Tensor) -> "Rows":
        """A batch of rows."""
        return cls((rows.detach().to("cpu", torch.float32, copy=True),))

    def merge(self, other: "Rows", /) -> "Rows":
        """Both together."""
        return Rows((*self.parts, *other.parts))

    def joined(self) -> Tensor:
        """All rows, float32 `[M, F]`."""
        return torch.cat(self.parts)


class Sums:
    """A count and float64 sums of one shape."""

    def __init__(self, count: int, total: Tensor) -> None:
        self.count, self.total = count, total

    def merge(self, other: "Sums", /) -> "Sums":
        """Both together."""
        return Sums(self.count + other.count, self.total + other.total)

    def mean(self) -> Tensor:
        """Total over count."""
        return self.total / self.count


def _side(real: bool) -> str:
    return "real" if real else "fake"


class FrechetDistance(StreamedMetric[FeatureStatistics]):
    """`frechet_distance` from merged float64 moments.

    Args:
        allow_few: whether fewer rows than features are compared.

    Example:
        >>> metric = FrechetDistance()
        >>> for value in (0.0, 1.0):
        ...     metric.update(torch.tensor([[value], [value]]), real=False)
        ...     metric.update(torch.tensor([[value + 2.0]] * 2), real=True)
        >>> metric.compute().distance
        4.0
    """

    def __init__(self, *, allow_few: bool = False) -> None:
        super().__init__()
        self.allow_few = allow_few

    def update(self, features: Tensor, *, real: bool) -> None:
        """Take in features `[M, F]` of real or of generated clips; M may be 0."""
        if features.shape[0]:
            self._add(_side(real), FeatureStatistics.of(features))

    def compute(self) -> FrechetResult:
        """The distance and how it was computed; errors as in `frechet_from_statistics`."""
        return frechet_from_statistics(*self._both(), allow_few=self.allow_few)


class Jedi(StreamedMetric[Sums]):
    """`jedi` from merged float64 second moments."""

    def update(self, features: Tensor, *, real: bool) -> None:
        """Take in features `[M, F]`."""
        rows = features.detach().to("cpu", torch.float64)
        self._add(_side(real), Sums(rows.shape[0], rows.T @ rows))

    def compute(self) -> float:
        """The value, float64."""
        fake, real = self._both()
        return jedi_from_moments(fake.mean(), real.mean())


class KernelDistance(StreamedMetric[Rows]):
    """`kernel_distance` of rows that are kept.

    Args:
        rule: None takes the cubic kernel on all rows.
    """

    def __init__(self, rule: KernelRule | None = None) -> None:
        super().__init__()
        self.rule = rule

    def update(self, features: Tensor, *, real: bool) -> None:
        """Take in features `[M, F]`."""
        self._add(_side(real), Rows.of(features))

    def compute(self) -> KernelResult:
        """The distance, and its spread over subsets if the rule asks for them."""
        fake, real = self._both()
        return kernel_distance(fake.joined(), real.joined(), self.rule)


class ManifoldMetrics(StreamedMetric[Rows]):
    """`manifold_metrics` of rows that are kept.

    Args:
        rule: None takes k = 5 and open balls.
    """

    def __init__(self, rule: ManifoldRule | None = None) -> None:
        super().__init__()
        self.rule = rule

    def update(self, features: Tensor, *, real: bool) -> None:
        """Take in features `[M, F]`."""
        self._add(_side(real), Rows.of(features))

    def compute(self) -> ManifoldResult:
        """Precision, recall, density and coverage."""
        fake, real = self._both()
        return manifold_metrics(real=real.joined(), fake=fake.joined(), rule=self.rule)


class InceptionScore(StreamedMetric[Rows]):
    """`inception_score` of probabilities that are kept, since splits depend on their order.

    Args:
        splits, log_guard: as there.
    """

    names = ("fake",)

    def __init__(self, splits: int = 1, *, log_guard: float = 0.0) -> None:
        super().__init__()
        self.splits, self.log_guard = splits, log_guard

    def update(self, probabilities: Tensor) -> None:
        """Take in probabilities `[M, N]`."""
        self._add("fake", Rows.of(probabilities))

    def compute(self) -> tuple[float, float]:
        """Mean and population standard deviation over the splits."""
        if "fake" not in self._states:
            raise ValueError("InceptionScore has seen no probabilities; call update before compute")
        rows = self._states["fake"].joined()
        return inception_score(rows, self.splits, log_guard=self.log_guard)


FRAME_METRICS: dict[str, FrameMetric] = {"psnr": psnr, "ssim": ssim}


class FrameQuality(StreamedMetric[Sums]):
    """Mean `psnr`, `ssim` or LPIPS over frames and clips.

    Args:
        metric: `psnr`, `ssim`, or a function such as `perceptual.load_perceptual("alex")`.
    """

    names = ("frames",)

    def __init__(self, metric: str | FrameMetric) -> None:
        super().__init__()
        if isinstance(metric, str) and metric not in FRAME_METRICS:
            raise ValueError(f"there is no frame metric {metric!r}; use psnr, ssim or a function")
        self.metric: FrameMetric = FRAME_METRICS[metric] if isinstance(metric, str) else metric

    def update(self, clips: Tensor, truth: Tensor) -> None:
        """Take in clips and the truth, uint8 `[M, C, T, H, W]`."""
        values = self.metric(clips, truth)
        self._add("frames", Sums(values.numel(), values.sum()))

    def compute(self) -> float:
        """The mean, float64."""
        if "frames" not in self._states:
            raise ValueError("FrameQuality has seen no frames; call update before compute")
        return float(self._states["frames"].mean())
