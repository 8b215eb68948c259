"""Settings of training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from vidgan.core.settings import Range, check_fields
from vidgan.errors import UserError
from vidgan.training.augment import AugmentConfig


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Settings of one optimizer.

    Attributes:
        kind: `adam`, `rmsprop` or `sgd`.
        lr: learning rate, one or one per level.
        betas: decay of the first and second moments; RMSprop uses the second, SGD neither.
        eps: added to the denominator; float32 holds nothing much smaller than the least.
        weight_decay: L2 penalty added to the gradient.
    """

    kind: Literal["adam", "rmsprop", "sgd"] = "adam"
    lr: Annotated[float | tuple[float, ...], Range(above=0, most=10)] = 1e-3
    betas: Annotated[tuple[float, float], Range(0, below=1)] = (0.0, 0.99)
    eps: Annotated[float, Range(1e-30, 1)] = 1e-8
    weight_decay: Annotated[float, Range(0, 10)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self, "optimizer")


@dataclass(frozen=True, kw_only=True)
class PrecisionConfig:
    """Number formats.

    Attributes:
        networks: `fp32`, `bf16` for autocast of both networks, or `fp64` for exact comparisons.
        penalty: format of passes that are differentiated twice; reductions are always float32.
        check: what happens where the gradients of a first step are not those of float64: `warn`
            warns and continues in float32, `strict` refuses to train, `off` does not compare.
    """

    networks: Literal["fp32", "bf16", "fp64"] = "fp32"
    penalty: Literal["fp32", "bf16"] = "fp32"
    check: Literal["off", "warn", "strict"] = "warn"


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of training.

    Attributes:
        total_clips: real clips shown to the discriminator in the whole run.
        minutes: time that the steps may take on this machine. It is measured when the run begins,
            and the three lengths are scaled alike; None takes them as they are.
        stable_clips: clips each level but the last stays stable; one number or one per level.
        fade_clips: clips each level but the first takes to fade in; likewise.
        batch_size: clips of one discriminator update over all processes, one or one per level.
        discriminator_batch_size: clips of the batch for a discriminator, by its name; those that
            are named take theirs one after the other, the others take all.
        accumulate: micro-batches one update is computed in, to save memory.
        discriminator_steps: discriminator updates for each generator update.
        order: which network moves first in a step.
        fakes: `shared` trains the generator on the last discriminator update's fakes, `fresh`
            draws new latents.
        generator: optimizer of the generator.
        discriminator: optimizer of all discriminators.
        reset_optimizer: forget the moments of both optimizers when a level begins.
        reset_after_fade: forget them again when the level is wholly faded in, as the authors of
            progressive growing do.
        ema_beta: decay of the averaged generator per generator update; 0 keeps plain weights.
        ema_start: generator updates during which the averaged generator is the plain one.
        ema_rampup: the share of the generator updates so far that the average may extend over, so
            that a young run is not judged by weights it has left behind; 0 for no such limit.
        standing_batches: batches over which batch norm statistics of the averaged generator are
            measured before it is saved or sampled; 0 takes the running ones of the plain one.
        precision: number formats.
        augment: augmentation of real and generated clips alike.
        threads: CPU threads; 0 takes what is there. Recorded, and set again when a run continues.
        keep_memory: on a CPU, keep the memory of one step for the next instead of giving it back
            to the system (Linux with glibc); the process keeps it until it ends.
        workers: processes that read clips; 0 reads in the training process.
        device: `auto`, `cpu`, `cuda` or `mps`.
        cuda_graphs: on one GPU, launch all kernels of a step at once where the step allows it.
        deterministic: on a GPU, take only kernels that give the same bits every time; on the CPU
            that is always so.
        profile_steps: steps of a call, after its first few, whose operators are timed; 0 for none.
        log: loggers that get numbers and samples besides the run folder: `tensorboard`, `wandb`,
            `trackio` or those of other packages; a list, or names with commas between them.
        log_every: steps between two lines of the log.
        sample_every: steps between two sample videos; 0 for none but the last.
        checkpoint_every: steps between two checkpoints.
        keep_checkpoints: newest checkpoints that stay on disk, besides the best one.
        num_samples: clips in a sample video.
        doctor: what follows if a look at the clips shows trouble that lasts: `warn` says so,
            `stop` also ends the run as unhealthy where it will not come back, `off` does not look.
        max_rollbacks: returns to a good checkpoint after non-finite losses before giving up.
    """

    total_clips: Annotated[int, Range(1)] = 1_000_000
    minutes: Annotated[float | None, Range(above=0, most=366 * 24 * 60)] = None
    stable_clips: Annotated[int | tuple[int, ...], Range(0)] = 100_000
    fade_clips: Annotated[int | tuple[int, ...], Range(0)] = 100_000
    batch_size: Annotated[int | tuple[int, ...], Range(1, 65_536)] = 16
    discriminator_batch_size: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    accumulate: Annotated[int, Range(1, 65_536)] = 1
    discriminator_steps: Annotated[int, Range(1, 65_536)] = 1
    order: Literal["discriminator_first", "generator_first"] = "discriminator_first"
    fakes: Literal["shared", "fresh"] = "shared"
    generator: OptimizerConfig = field(default_factory=OptimizerConfig)
    discriminator: OptimizerConfig = field(default_factory=OptimizerConfig)
    reset_optimizer: bool = True
    reset_after_fade: bool = False
    ema_beta: Annotated[float, Range(0, below=1)] = 0.999
    ema_start: Annotated[int, Range(0)] = 0
    ema_rampup: Annotated[float, Range(0, 1)] = 0.0
    standing_batches: Annotated[int, Range(0)] = 0
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    threads: Annotated[int, Range(0, 1024)] = 0
    keep_memory: bool = True
    workers: Annotated[int, Range(0, 1024)] = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    cuda_graphs: bool = True
    deterministic: bool = False
    profile_steps: Annotated[int, Range(0, 1000)] = 0
    log: str | tuple[str, ...] | None = None
    log_every: Annotated[int, Range(1)] = 20
    sample_every: Annotated[int, Range(0)] = 500
    checkpoint_every: Annotated[int, Range(1)] = 500
    keep_checkpoints: Annotated[int, Range(1)] = 2
    num_samples: Annotated[int, Range(1, 65_536)] = 16
    doctor: Literal["off", "warn", "stop"] = "warn"
    max_rollbacks: Annotated[int, Range(0)] = 3

    @property
    def loggers(self) -> tuple[str, ...]:
        """The names in `log`, each once."""
        words = (self.log,) if isinstance(self.log, str) else self.log or ()
        names = (name.strip() for word in words for name in word.split(","))
        return tuple(dict.fromkeys(name for name in names if name))

    def __post_init__(self) -> None:
        check_fields(self, "training")
        for name, count in self.discriminator_batch_size.items():
            if min(count if isinstance(count, tuple) else (count,), default=0) < 1:
                raise UserError(f"training.discriminator_batch_size.{name} must be at least 1")
