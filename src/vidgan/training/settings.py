"""Settings of training."""

from dataclasses import dataclass, field
from typing import Literal

from vidgan.errors import UserError
from vidgan.training.augment import AugmentConfig


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Settings of one optimizer.

    Attributes:
        kind: `adam`, `rmsprop` or `sgd`.
        lr: learning rate, one or one per level.
        betas: decay of the first and second moments; RMSprop uses the second, SGD neither.
        eps: added to the denominator.
        weight_decay: L2 penalty added to the gradient.
    """

    kind: Literal["adam", "rmsprop", "sgd"] = "adam"
    lr: float | tuple[float, ...] = 1e-3
    betas: tuple[float, float] = (0.0, 0.99)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        rates = self.lr if isinstance(self.lr, tuple) else (self.lr,)
        for name, values, fits in (
            ("lr", rates, min(rates, default=1.0) > 0),
            ("betas", self.betas, all(0 <= beta < 1 for beta in self.betas)),
            ("eps", (self.eps,), self.eps > 0),
            ("weight_decay", (self.weight_decay,), self.weight_decay >= 0),
        ):
            if not fits:
                shown = ", ".join(map(str, values))
                raise UserError(
                    f"an optimizer with {name}={shown} cannot work: lr and eps must be above 0, "
                    f"betas in 0 to below 1, weight_decay 0 or more"
                )


@dataclass(frozen=True, kw_only=True)
class PrecisionConfig:
    """Number formats.

    Attributes:
        networks: `fp32`, `bf16` for autocast of both networks, or `fp64` for exact comparisons.
        penalty: format of passes that are differentiated twice; reductions are always float32.
        check: what happens where the gradients of a first step are not those of float64: `warn`
            says so and goes on in float32, `strict` refuses to train, `off` does not compare.
    """

    networks: Literal["fp32", "bf16", "fp64"] = "fp32"
    penalty: Literal["fp32", "bf16"] = "fp32"
    check: Literal["off", "warn", "strict"] = "warn"


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of training.

    Attributes:
        total_clips: real clips shown to the discriminator in the whole run.
        stable_clips: clips each level but the last stays stable; one number or one per level.
        fade_clips: clips each level but the first takes to fade in; likewise.
        batch_size: clips of one discriminator update over all processes, one or one per level.
        accumulate: micro-batches one update is computed in, to save memory.
        discriminator_steps: discriminator updates for each generator update.
        order: which network moves first in a step.
        fakes: `shared` trains the generator on the last discriminator update's fakes, `fresh`
            draws new latents.
        generator: optimizer of the generator.
        discriminator: optimizer of all discriminators.
        reset_optimizer: forget the moments of both optimizers when a level begins.
        ema_beta: decay of the averaged generator per generator update; 0 keeps plain weights.
        ema_start: generator updates during which the averaged generator is the plain one.
        standing_batches: batches over which batch norm statistics of the averaged generator are
            measured before it is saved or sampled; 0 takes the running ones of the plain one.
        precision: number formats.
        augment: augmentation of real and generated clips alike.
        threads: CPU threads; 0 takes what is there. Recorded, and set again when a run continues.
        workers: processes that read clips; 0 reads in the training process.
        device: `auto`, `cpu`, `cuda` or `mps`.
        log_every: steps between two lines of the log.
        sample_every: steps between two sample videos; 0 for none but the last.
        checkpoint_every: steps between two checkpoints.
        keep_checkpoints: newest checkpoints that stay on disk, besides the best one.
        num_samples: clips in a sample video.
        max_rollbacks: returns to a good checkpoint after non-finite losses before giving up.
    """

    total_clips: int = 1_000_000
    stable_clips: int | tuple[int, ...] = 100_000
    fade_clips: int | tuple[int, ...] = 100_000
    batch_size: int | tuple[int, ...] = 16
    accumulate: int = 1
    discriminator_steps: int = 1
    order: Literal["discriminator_first", "generator_first"] = "discriminator_first"
    fakes: Literal["shared", "fresh"] = "shared"
    generator: OptimizerConfig = field(default_factory=OptimizerConfig)
    discriminator: OptimizerConfig = field(default_factory=OptimizerConfig)
    reset_optimizer: bool = True
    ema_beta: float = 0.999
    ema_start: int = 0
    standing_batches: int = 0
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    threads: int = 0
    workers: int = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    log_every: int = 20
    sample_every: int = 500
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    num_samples: int = 16
    max_rollbacks: int = 3

    def __post_init__(self) -> None:
        counts = ["total_clips", "accumulate", "discriminator_steps", "log_every"]
        counts += ["checkpoint_every", "keep_checkpoints", "num_samples"]
        for name in counts:
            _refuse_below(1, name, (getattr(self, name),))
        may_be_zero = ("sample_every", "threads", "workers", "max_rollbacks")
        for name in (*may_be_zero, "ema_start", "standing_batches"):
            _refuse_below(0, name, (getattr(self, name),))
        for name, least in (("batch_size", 1), ("stable_clips", 0), ("fade_clips", 0)):
            value = getattr(self, name)
            _refuse_below(least, name, value if isinstance(value, tuple) else (value,))
        if not 0 <= self.ema_beta < 1:
            raise UserError(f"training.ema_beta={self.ema_beta} must be at least 0 and below 1")


def _refuse_below(least: int, name: str, values: tuple[int, ...]) -> None:
    if min(values, default=least) < least:
        raise UserError(f"training.{name}={min(values)} must be at least {least}")
