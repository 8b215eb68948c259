"""The interface of every model.

Axis letters: `B` batch, `C` channels, `T` frames, `H` height, `W` width, `Z` latent length,
`K` scores per clip, `N` classes, `F` features. A clip inside a model is float `[B, C, T, H, W]` in
[-1, 1]; a latent is float `[B, Z]`, standard normal, and one row of it is all the randomness of one
clip.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from vidgan.core.distributed import Processes
from vidgan.core.randomness import BatchRandom
from vidgan.core.settings import Range, Width, check_fields
from vidgan.core.shapes import ClipShape as ClipShape
from vidgan.core.shapes import LevelShape as LevelShape

BatchCoupling = Literal["none", "group", "batch"]
"""How rows of a batch depend on each other: not at all, within groups, or all."""


class Box(NamedTuple):
    """A rectangle of a frame in px, `x` and `y` of its corner at the top left."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The stage of a growing model.

    Attributes:
        level: index of the level, counted up from 0.
        frames: frames of a clip at this level.
        resolution: height and width at this level in px.
        batch_size: clips of one discriminator update, all processes together.
        alpha: weight of the newest level, 0..1; 1 while the level is stable.
    """

    level: Annotated[int, Range(0, 64)]
    frames: Width
    resolution: Width
    batch_size: Width
    alpha: Annotated[float, Range(0, 1)] = 1.0


class Scores(NamedTuple):
    """A discriminator's output for a batch of clips.

    Attributes:
        realness: `[B, K]`, higher means more real unless the loss says otherwise.
        class_logits: `[B, N]` or None.
        encoding: `[B, F]` or None.
    """

    realness: Tensor
    class_logits: Tensor | None = None
    encoding: Tensor | None = None


class RunningStatistics(nn.Module):
    """A layer with statistics that move once per optimizer step of its network.

    A training pass notes what it saw only while `observes` is set, that is in the passes whose
    loss the network's own step differentiates; the passes of a penalty or of the other player's
    step are not recorded. `settle` then moves the statistics by the mean over the noted passes.
    """

    observes = False
    processes = Processes()
    """Those over which a training pass takes its statistics; one, unless a training step says so.
    All of them have to make the same passes."""

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Drop the recorded statistics."""
        self.observed: list[Tensor] = []
        self.passes = 0

    def note(self, *statistics: Tensor) -> None:
        """Add one pass."""
        sums = self.observed or [torch.zeros_like(value) for value in statistics]
        self.observed = [a + b.detach() for a, b in zip(sums, statistics, strict=True)]
        self.passes += 1

    def settle(self, momentum: float | None = None) -> None:
        """Update the statistics with the recorded passes, and clear them.

        Args:
            momentum: part of the statistics that is replaced; by default the layer's own.
        """
        raise NotImplementedError


class Network(nn.Module):
    """Base of generators and discriminators."""

    couples_batch: BatchCoupling = "none"
    group_size: int = 1

    def set_stage(self, stage: Stage) -> None:
        """Activate what `stage` uses; a model of fixed size ignores it."""

    def before_step(self) -> None:
        """Edit gradients, after they were averaged over processes and before the optimizer."""

    def after_step(self, step: int) -> None:
        """Edit parameters or move running vectors once per optimizer step of this network."""

    def running_layers(self) -> list[RunningStatistics]:
        """Layers whose statistics move once per optimizer step of this network."""
        return [module for module in self.modules() if isinstance(module, RunningStatistics)]

    @contextmanager
    def observing(self, counts: bool = True) -> Iterator[None]:
        """Let the passes in this block move running statistics at the next step, if they count."""
        layers = self.running_layers()
        for layer in layers:
            layer.observes = counts
        try:
            yield
        finally:
            for layer in layers:
                layer.observes = False

    def parameters_in_use(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that the current stage trains."""
        return ((name, p) for name, p in self.named_parameters() if p.requires_grad)


class Generator(Network):
    """Maps latents to clips; in eval mode a pure function of its inputs, row by row."""

    num_classes: int = 0
    context_frames: int = 0
    context_kind: str = "frames"
    """Short description of the context: whole frames, or incomplete clips."""
    context_overlap: int = 0
    supports_truncation: bool = False
    supports_mask: bool = False
    """Whether the generator fills in what `cover` hides."""
    repeats_context: bool = False
    """Whether a generated clip begins with the given frames."""
    shows: tuple[str, ...] = ()
    """Images among the parts beside the clip, `[B, 1 or C, T, H, W]` in [-1, 1]; a `mask` lies in
    [0, 1]."""
    motion_parts: tuple[str, ...] = ()
    """Latent parts that move a clip, where the others hold what it shows."""

    frame_noise: Mapping[str, int] = {}
    """Latent parts that hold so many numbers for each frame, one frame after the other."""

    @property
    def latent_parts(self) -> dict[str, slice]:
        """Named slices of a latent row (content, motion, ...); those of `frame_noise` come last."""
        return {"content": slice(0, self.latent_dim())}

    def latent_dim(self, num_frames: int | None = None) -> int:
        """Length Z of a latent row for clips of `num_frames` (default: the trained length)."""
        raise NotImplementedError

    def parts(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        num_frames: int | None = None,
    ) -> dict[str, Tensor]:
        """Generate and return `clip` together with the model's other outputs.

        A part `category`, int64 `[B]`, is what an unlabelled generator drew for discriminators
        that classify: they learn to name it.
        """
        raise NotImplementedError

    def forward(
        self, latent: Tensor, labels: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        """Latents `[B, Z]` (and labels `[B]`, context clips) to clips `[B, C, T, H, W]`."""
        return self.parts(latent, labels, context)["clip"]

    def make_context(self, real: Tensor, rng: BatchRandom) -> tuple[Tensor | None, Tensor]:
        """Split real clips `[B, C, T, H, W]` into (context, target); no context by default.

        Args:
            real: clips as the loader yields them.
            rng: random rows for these clips, where the context is a corrupted clip.
        """
        return None, real

    def cover(self, real: Tensor, box: Box) -> Tensor:
        """Hide a box of float clips `[B, C, T, H, W]`, as a context to be filled in."""
        raise ValueError("this generator does not inpaint")

    def check_frames(self, num_frames: int | None, own: int) -> None:
        """Raise ValueError if another length is asked for than the only one there is."""
        if num_frames not in (None, own):
            raise ValueError(f"this generator makes {own} frames, not {num_frames}")

    def check_context(self, context: Tensor | None) -> Tensor:
        """The context; raise ValueError if there is none."""
        if context is None:
            raise ValueError(f"this generator needs {self.context_frames} given frames as context")
        return context

    def check_labels(self, labels: Tensor | None) -> None:
        """Raise ValueError unless labels are given exactly if the generator is conditional."""
        if self.num_classes and labels is None:
            raise ValueError(f"this generator needs labels 0..{self.num_classes - 1}")
        if labels is not None and not self.num_classes:
            raise ValueError("this generator is unconditional: call it without labels")


class Discriminator(Network):
    """Scores clips."""

    def draw_view(self, num_clips: int, rng: torch.Generator) -> Tensor | None:
        """Draw what part of each clip to look at, `[num_clips, ...]`; None: always all of it."""
        return None

    def forward(
        self,
        clip: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Scores:
        """Clips `[B, C, T, H, W]` (and labels `[B]`) to `Scores`."""
        raise NotImplementedError


@dataclass
class GAN:
    """A generator and its discriminators."""

    generator: Generator
    discriminators: dict[str, Discriminator]

    @property
    def networks(self) -> dict[str, Network]:
        """Every network by name, the generator first."""
        return {"generator": self.generator, **self.discriminators}

    def set_stage(self, stage: Stage) -> None:
        """Activate `stage` in every network."""
        for network in self.networks.values():
            network.set_stage(stage)

    def prepare_real(self, real: Tensor) -> Tensor:
        """Degrade real clips as the current stage degrades generated ones (identity here)."""
        return real

    def make_context(self, real: Tensor, rng: BatchRandom) -> tuple[Tensor | None, Tensor]:
        """Split what the loader yields into (context, target), as the generator does."""
        return self.generator.make_context(real, rng)

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> "GAN":
        """Move or convert every network in place and return self."""
        for network in self.networks.values():
            network.to(device=device, dtype=dtype)
        return self

    def train(self, mode: bool = True) -> "GAN":
        """Set training mode on every network and return self."""
        for network in self.networks.values():
            network.train(mode)
        return self


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Base of every model's settings; a subclass stands beside the model it configures."""

    NAME: ClassVar[str] = ""
    ABOUT: ClassVar[str] = ""
    """One line for the list of models; without it the first line of the model's file."""
    DIFFERENCES: ClassVar[tuple[str, ...]] = ()
    """Where the model departs from its paper, and how it reads what the paper leaves open."""
    FIXED: ClassVar[Mapping[str, Any]] = {"head": "linear", "spectral_norm": False}
    """Requirements of losses that this model meets without a setting."""

    def __post_init__(self) -> None:
        check_fields(self, "model")

    def levels(self, clip_shape: ClipShape) -> tuple[LevelShape, ...]:
        """Clip sizes the model is trained at, smallest first; one for models of fixed size.

        Raises:
            UserError: the model cannot make clips of this shape.
        """
        return (LevelShape(clip_shape.frames, clip_shape.height),)

    def build(self, clip_shape: ClipShape, num_classes: int = 0) -> GAN:
        """Construct the networks with freshly initialised parameters."""
        raise NotImplementedError
