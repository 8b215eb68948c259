"""What a training step costs, counted on tensors that hold nothing.

The step is the real one, taken by `TrainingStep` on fake tensors: they have shapes, number formats
and life times, but no values, so a step of any size is counted in seconds and without its memory.
"""

import dataclasses
import warnings
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from vidgan.core.distributed import Processes
from vidgan.losses.recipes import make_loss
from vidgan.models.base import ClipShape, Network
from vidgan.training.budget import full_stage
from vidgan.training.checkpoint import checkpoint_bytes
from vidgan.training.ema import PLAYERS, copy_generator
from vidgan.training.planner import clips_of_a_group, plan_schedule
from vidgan.training.presets import Config
from vidgan.training.step import Batch, Logs, TrainingStep

_NO_KERNELS = ("prim", "profiler")
"""Namespaces of calls that compute nothing."""


class Kernel(NamedTuple):
    """Calls that cost alike.

    Attributes:
        flop: floating-point operations, two for each multiplication with its addition; 0 for what
            is no product of matrices and no convolution.
        bytes: that the call reads and writes if nothing stays in a cache.
        is_half: whether its operands are bfloat16.
        is_convolution: rather than a product of matrices.
        channels: the shortest side of the product: below 64 a card's tiles are not full.
    """

    flop: int
    bytes: int
    is_half: bool
    is_convolution: bool
    channels: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepCost:
    """Cost of a step at one level; sizes in bytes, figures of lazy penalties at their share.

    Attributes:
        batch_size: clips of an update.
        clips: reals that the step shows to the discriminators.
        parameters: trained ones by network.
        kernels: calls of a step with every penalty, and of one without; the first happens
            `penalty_share` of the time.
        penalty_share: part of the steps that have a penalty.
        state: weights, averaged weights and moments, which stay from step to step.
        saved_discriminator: what the backward pass of the discriminators' losses reads.
        saved_generator: what that of the generator's loss reads.
        peak_discriminator: largest memory while the discriminators move without a penalty.
        peak_penalty: the same with every penalty; 0 if there is none.
        peak_generator: largest memory while the generator moves.
        gradients: of the larger player.
        checkpoint: size on the disk.
        group: clips that micro-batches must not part; 0 if a batch cannot be parted at all.
    """

    batch_size: int
    clips: int
    parameters: Mapping[str, int]
    kernels: tuple[Counter[Kernel], Counter[Kernel]]
    penalty_share: float
    state: int
    saved_discriminator: int
    saved_generator: int
    peak_discriminator: int
    peak_penalty: int
    peak_generator: int
    gradients: int
    checkpoint: int
    group: int

    @property
    def peak(self) -> int:
        """Largest memory of all tensors of a step."""
        return max(self.peak_discriminator, self.peak_penalty, self.peak_generator)

    def peak_at(self, batch_size: int) -> float:
        """The peak at another batch size: what belongs to clips grows with their number."""
        fixed = self.state + self.gradients
        return fixed + max(self.peak - fixed, 0) * batch_size / self.batch_size

    @property
    def flop(self) -> float:
        """Floating-point operations of products and convolutions in a mean step."""
        return sum(kernel.flop * count for kernel, count in self.mean_kernels())

    @property
    def bytes(self) -> float:
        """Bytes that the calls of a mean step read and write."""
        return sum(kernel.bytes * count for kernel, count in self.mean_kernels())

    def mean_kernels(self) -> Iterator[tuple[Kernel, float]]:
        """Every kernel with the number of its calls in a mean step."""
        shares = self.penalty_share, 1 - self.penalty_share
        for kernels, share in zip(self.kernels, shares, strict=True):
            if share:
                yield from ((kernel, count * share) for kernel, count in kernels.items())


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts calls, and the memory of all tensors that are alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kernels: Counter[Kernel] = Counter()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.namespace in _NO_KERNELS:
            return out
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        for tensor in made:
            self._see(tensor)
        if not func.is_view and "empty" not in func.__name__:
            given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            counts = flop_registry.get(func._overloadpacket)
            flop = int(counts(*args, **kwargs, out_val=out)) if counts else 0
            operands = [tensor for tensor in given if tensor.is_floating_point()]
            self.kernels[
                Kernel(
                    flop,
                    sum(min(t.nbytes, t.untyped_storage().nbytes()) for t in (*given, *made)),
                    bool(operands) and operands[0].dtype == torch.bfloat16,
                    flop > 0 and "convolution" in func.__name__,
                    _shortest_side(func.__name__, operands) if flop else 0,
                )
            ] += 1
        return out

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.live += self._sizes[key]
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


def _shortest_side(name: str, operands: Sequence[Tensor]) -> int:
    """Channels of a convolution's kernel, or sides of matrices: the least of them."""
    if "convolution" in name:
        kernel = operands[2 if "backward" in name else 1]
        return min(kernel.shape[:2])
    return min(min(tensor.shape[-2:]) for tensor in operands if tensor.dim() > 1)


class _MeteredStep(TrainingStep):
    """A step that notes what is alive when a loss is known, and each player's peak."""

    def __init__(self, meter: _Meter, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.meter = meter
        self.saved = dict.fromkeys(PLAYERS, 0)
        self.peaks = dict.fromkeys(PLAYERS, 0)

    def discriminator_loss(self, *arguments: Any) -> tuple[Tensor, Logs]:
        before = self.meter.live
        found = super().discriminator_loss(*arguments)
        self.saved["discriminator"] = self.meter.live - before
        return found

    def generator_loss(self, *arguments: Any) -> tuple[Tensor, Logs]:
        before = self.meter.live
        found = super().generator_loss(*arguments)
        self.saved["generator"] = self.meter.live - before
        return found

    def update(self, player: str, networks: Sequence[Network], *rest: Any) -> Logs:
        self.meter.peak = self.meter.live
        logs = super().update(player, networks, *rest)
        self.peaks[player] = self.meter.peak
        return logs


def count_step(
    config: Config, clip_shape: ClipShape, num_classes: int, level: int, batch_size: int = 0
) -> StepCost:
    """Count a step of a training, wholly faded in, as one process of it takes it on a CPU.

    Args:
        config: settings of the training.
        clip_shape: of a fully grown clip.
        num_classes: 0 for unlabelled data.
        level: of the schedule.
        batch_size: clips of an update; 0 takes that of the settings.
    """
    with _fakes(), _Meter() as meter:
        step, batch = _fake_step(meter, config, clip_shape, num_classes, level, batch_size)
        gan, size = step.gan, batch.global_size

        # The first step sets up the moments; update 0 has every penalty.
        penalties = step.loss.penalties
        full = _take(step, batch, 0)
        found = step.saved, full[1]
        step.loss = dataclasses.replace(step.loss, penalties={})
        step.saved = dict(step.saved)
        plain = _take(step, batch, 1) if penalties else full
        turns = config.training.discriminator_steps
        every = min((penalty.every for penalty in penalties.values()), default=1)
        step.last_batch = None
        del batch
        couplings = {network.couples_batch for network in gan.networks.values()}
        return StepCost(
            batch_size=size,
            clips=size * turns,
            parameters={
                name: sum(p.numel() for _, p in network.parameters_in_use())
                for name, network in gan.networks.items()
            },
            kernels=(full[0], plain[0]),
            penalty_share=min(1.0, turns / every),
            state=meter.live,
            saved_discriminator=found[0]["discriminator"],
            saved_generator=found[0]["generator"],
            peak_discriminator=plain[1]["discriminator"],
            peak_penalty=found[1]["discriminator"] if penalties else 0,
            peak_generator=max(found[1]["generator"], plain[1]["generator"]),
            gradients=max(
                sum(
                    p.nbytes for group in o.param_groups for p in group["params"] if p.requires_grad
                )
                for o in step.optimizers.values()
            ),
            checkpoint=checkpoint_bytes(step),
            group=0 if "batch" in couplings else clips_of_a_group(gan),
        )


def _fake_step(
    meter: _Meter,
    config: Config,
    clip_shape: ClipShape,
    num_classes: int,
    level: int,
    batch_size: int,
) -> tuple[_MeteredStep, Batch]:
    """A step that has entered a level, and a batch for it."""
    gan = config.model.build(clip_shape, num_classes).train()
    schedule = plan_schedule(config, clip_shape)
    step = _MeteredStep(
        meter,
        gan,
        copy_generator(gan.generator),
        make_loss(config.loss),
        config.training,
        0,
        len(schedule.levels),
        Processes(),
    )
    stage = full_stage(schedule, level)
    size = batch_size or stage.batch_size
    step.enter(dataclasses.replace(stage, batch_size=size))
    sides = (stage.frames, stage.resolution, stage.resolution)
    clip = torch.zeros(size, clip_shape.channels, *sides, dtype=torch.uint8)
    return step, Batch(clip, torch.zeros(size, dtype=torch.int64), size, 0)


@contextmanager
def _fakes() -> Iterator[None]:
    """Tensors without values, made and copied without complaint."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with warnings.catch_warnings(), FakeTensorMode(allow_non_fake_inputs=True):
        warnings.simplefilter("ignore")
        with torch.random.fork_rng(devices=[]):
            yield


def _take(step: _MeteredStep, batch: Batch, number: int) -> tuple[Counter[Kernel], dict[str, int]]:
    """Take a step; its kernels, and each player's peak as if the moments had been there before."""
    meter, before = step.meter, step.meter.live
    meter.kernels, step.peaks = Counter(), dict.fromkeys(PLAYERS, 0)
    step.run(number, 0, lambda: batch)
    grown = meter.live - before
    return meter.kernels, {player: peak + grown for player, peak in step.peaks.items()}
