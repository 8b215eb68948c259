"""Metrics of moments that see their features batch by batch: `update`, `compute`, `gathered`.

The Frechet distance and JEDi need sums alone, so that a set of any size takes the memory of one
matrix `[F, F]`. Fed with the same rows in the same order, in one batch or in many, on one process
or on several, `compute` gives what the function of this package gives, which stays the definition.
All other metrics compare rows with rows: gather the rows and call their functions.

    metric = FrechetDistance()
    for batch in batches:
        metric.update(features(batch), real=False)
    metric.gathered(processes).compute()
"""

from abc import ABC, abstractmethod
from copy import copy
from typing import Any, Generic, Protocol, Self, TypeVar

from torch import Tensor
from torch import distributed as dist

from vidgan.core.distributed import Processes
from vidgan.metrics.frechet import FrechetResult, frechet_from_statistics
from vidgan.metrics.kernel import jedi_from_moments
from vidgan.metrics.statistics import FeatureStatistics, feature_rows


class Mergeable(Protocol):
    """What a metric has gathered so far."""

    def merge(self, other: Self, /) -> Self:
        """Both together, the other's rows after these."""


State = TypeVar("State", bound=Mergeable)


class StreamedMetric(ABC, Generic[State]):
    """Base of the metrics below: one state for fake rows and one for real ones, which merge."""

    def __init__(self) -> None:
        self._states: dict[str, State] = {}

    @abstractmethod
    def compute(self) -> Any:
        """The value of everything seen so far."""

    def reset(self) -> None:
        """Forget everything seen."""
        self._states = {}

    def merge(self, other: Self) -> None:
        """Merge what another metric of the same kind has seen, after what this one has."""
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
        """Merge a state after the one of that name."""
        present = self._states.get(name)
        self._states[name] = state if present is None else present.merge(state)

    def _both(self) -> tuple[State, State]:
        missing = [name for name in ("fake", "real") if name not in self._states]
        if missing:
            raise ValueError(
                f"{type(self).__name__} has seen no {' and no '.join(missing)} features; call "
                "update before compute"
            )
        return self._states["fake"], self._states["real"]


def _side(real: bool) -> str:
    return "real" if real else "fake"


class FrechetDistance(StreamedMetric[FeatureStatistics]):
    """`frechet_distance` from merged float64 moments.

    Args:
        allow_few: whether fewer rows than features are compared.

    Example:
        >>> import torch
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


class Moments:
    """A number of rows and the float64 sum of their outer products `[F, F]`."""

    def __init__(self, count: int, total: Tensor) -> None:
        self.count, self.total = count, total

    def merge(self, other: "Moments", /) -> "Moments":
        """Both together."""
        return Moments(self.count + other.count, self.total + other.total)

    def mean(self) -> Tensor:
        """E x x^T."""
        return self.total / self.count


class Jedi(StreamedMetric[Moments]):
    """`jedi` from merged float64 second moments."""

    def update(self, features: Tensor, *, real: bool) -> None:
        """Take in features `[M, F]` of real or of generated clips; M may be 0."""
        if features.shape[0]:
            rows = feature_rows(features)
            self._add(_side(real), Moments(rows.shape[0], rows.T @ rows))

    def compute(self) -> float:
        """The value, float64."""
        fake, real = self._both()
        return jedi_from_moments(fake.mean(), real.mean())
