"""Projection: the latent from which a generator makes a given clip, as nearly as it can.

Random latents are compared first. The best of them go on by gradient descent (Adam, D. Kingma and
J. Ba 2015), then by least squares (D. Marquardt 1963): latents are short, so that the derivatives
of a clip by all their numbers take a few batches of clips, and near the solution a step of these
does what gradients need hundreds for. What is minimised is the squared difference of pixels, of
changes from frame to frame, of clips at lower resolutions and, where a discriminator is at hand, of
its features. Latents stay in the ball that holds all but a thousandth of those that the generator
was trained with.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vidgan.core.clip_ops import pool_clip, to_float, to_uint8
from vidgan.core.progress import Progress
from vidgan.core.randomness import keyed_rng
from vidgan.errors import UserError
from vidgan.metrics.image_quality import psnr
from vidgan.models.base import Generator

Features = Callable[[Tensor, Tensor | None], Tensor]
"""Float clips `[B, C, T, H, W]` and labels `[B]` to `[B, F]`, row by row."""

Verdict = Literal["recovered", "approximated", "failed"]

TEMPORAL_WEIGHT = 1.0
PYRAMID_WEIGHT = 1.0
FEATURE_WEIGHT = 0.01
COARSEST = 4
"""Least side in px of the clips that are compared at lower resolutions."""

BATCH = 64
LEAST_STARTS_A_CLASS = 16
DESCENDED = 8
"""Latents that go on by gradient descent."""
DESCENT_STEPS, DESCENT_LR = 40, 0.1
MEAN_DECAY, SQUARE_DECAY = 0.9, 0.999
LONG_DESCENT = 10
"""As many times more steps where least squares would not fit into memory."""

PROBE = 0.01
"""Step of numerical derivatives in standard deviations of the latent."""
MAX_DERIVATIVES = 2**28
"""Largest number of derivatives that are kept at a time: 1 GiB."""
DAMPING, EASING, MAX_REJECTED = 0.1, 5.0, 6
ARRIVED = 1e-2
"""Relative gain of three steps below which least squares end."""

OUTSIDE = 1e-3
"""Share of latents that lie outside of the ball."""

RECOVERED_DB = 30.0
RECOVERED_SHARE = 0.95
APPROXIMATED_SHARE = 0.8
"""Between clips of what a generator learned, which it does not make exactly, and foreign ones
(docs/project.md)."""
LEAST_GAIN_DB = 1.0


@dataclass(frozen=True, kw_only=True)
class ProjectionOptions:
    """How long and how widely to search.

    Attributes:
        seed: of the random latents.
        starts: random latents that are compared, all classes together; at least 16 a class.
        refined: of them, those that are refined to the end.
        steps: of least squares, for each of those.
        minutes: after which the best latent so far is returned.
    """

    seed: int = 0
    starts: int = 512
    refined: int = 3
    steps: int = 25
    minutes: float = 5.0

    def __post_init__(self) -> None:
        if min(self.starts, self.refined, self.steps) < 1 or not 0 < self.minutes < math.inf:
            raise UserError(
                "a projection needs at least one start, one refined latent, one step and more than "
                f"0 minutes, not {self.starts}, {self.refined}, {self.steps} and {self.minutes}"
            )


@dataclass(frozen=True)
class Projection:
    """A clip and what a generator makes of it.

    Attributes:
        latent: float32 `[Z]`.
        label: class of the generated clip, for a generator with classes.
        target: the given clip, uint8 `[C, T, H, W]`.
        clip: the generated clip, uint8 `[C, T, H, W]`.
        psnr: of the generated clip, mean over its frames in dB.
        psnr_random: the same of a random latent (mean over all that were compared).
        psnr_best_random: of the best of them.
        psnr_mean_clip: of the mean of their clips.
        explained: share of the given clip's variance that the generated one accounts for, at most
            1; a clip of one colour gets 0 at best.
        num_starts: random latents that were compared.
        verdict: see `judge`.
        reason: of the verdict, in a sentence.
        seconds: that the search took.
        in_time: whether the search ended by itself.
    """

    latent: Tensor
    label: int | None
    target: Tensor
    clip: Tensor
    psnr: float
    psnr_random: float
    psnr_best_random: float
    psnr_mean_clip: float
    explained: float
    num_starts: int
    verdict: Verdict
    reason: str
    seconds: float
    in_time: bool


def judge(
    psnr_found: float, psnr_best_random: float, psnr_mean_clip: float, explained: float
) -> tuple[Verdict, str]:
    """Whether a projection found the clip, with the reason.

    `recovered`: at least 30 dB, 95 % of the variance, and more than without a search. `failed`:
    less than 80 % of the variance, or within 1 dB of what the best random latent or the
    mean clip do. `approximated`: in between.
    """
    control = max(psnr_best_random, psnr_mean_clip)
    gain = psnr_found - control
    found = f"{psnr_found:.1f} dB and {max(explained, 0):.0%} of the clip's variance"
    if explained < APPROXIMATED_SHARE:
        return "failed", f"{found}: the generator makes no such clip"
    if gain < LEAST_GAIN_DB:
        without = "the best random latent" if control == psnr_best_random else "the mean clip"
        return "failed", f"{found}, where {without} has {control:.1f} dB: the search gained nothing"
    if psnr_found >= RECOVERED_DB and explained >= RECOVERED_SHARE:
        return "recovered", f"{found}, {gain:.1f} dB above any clip without a search"
    needed = f"{RECOVERED_DB:.0f} dB and {RECOVERED_SHARE:.0%}"
    return "approximated", f"{found}: like the clip, but not it (that takes {needed})"


def project_clip(
    generator: Generator,
    target: Tensor,
    label: int | None = None,
    options: ProjectionOptions | None = None,
    features: Features | None = None,
    progress: Progress | None = None,
) -> Projection:
    """Find the latent from which a generator makes a clip.

    Args:
        generator: float32, in eval mode.
        target: uint8 `[C, T, H, W]` of the size that the generator makes.
        label: class of the clip; None tries all classes.
        options: how long and how widely to search.
        features: of a discriminator, compared beside the clips themselves.
        progress: called with (done, total, what); what it raises ends the search.

    Returns:
        The best latent, always the same for the same arguments unless time runs out.

    Raises:
        UserError: the generator has no latent, no such class or needs a context, or the clip has
            another size.
    """
    options = options or ProjectionOptions()
    check_label(generator, label)
    started = time.monotonic()
    search = _Search(generator, target, options, features, progress)
    best = search.best(label)
    clip = to_uint8(search.clips(best.latents, best.labels)[0]).cpu()
    found, explained = _psnr(clip, target), _explained(clip, target)
    random, best_random, mean_clip = search.controls
    verdict, reason = judge(found, best_random, mean_clip, explained)
    if search.is_late():
        reason += f"; the search was cut off after {options.minutes:g} minutes"
    return Projection(
        latent=best.latents[0].cpu(),
        label=None if best.labels is None else int(best.labels[0]),
        target=target,
        clip=clip,
        psnr=found,
        psnr_random=random,
        psnr_best_random=best_random,
        psnr_mean_clip=mean_clip,
        explained=explained,
        num_starts=search.num_starts,
        verdict=verdict,
        reason=reason,
        seconds=time.monotonic() - started,
        in_time=not search.is_late(),
    )


def variations(latent: Tensor, count: int, size: float, seed: int = 0) -> Tensor:
    """Latents `[count, Z]` around one, `size` standard deviations of the latent away from it.

    They are as long as the latent itself, so that they stay among those the generator knows.
    """
    noise = torch.randn(count, len(latent), generator=keyed_rng(seed, "variation"))
    varied = latent + size * noise
    lengths = varied.norm(dim=1, keepdim=True).clamp_min(1e-12)
    kept: Tensor = latent.norm() / lengths * varied
    return kept


def with_motion(generator: Generator, latent: Tensor, other: Tensor) -> Tensor:
    """The latent `[Z]` of what one clip shows, moving as another one does.

    Raises:
        UserError: the model's latent does not part motion from content.
    """
    check_parts_motion(generator)
    moved = latent.clone()
    for name in generator.motion_parts:
        part = generator.latent_parts[name]
        moved[part] = other[part]
    return moved


def check_parts_motion(generator: Generator) -> None:
    """Raise UserError for a generator whose latent does not part motion from content."""
    if not generator.motion_parts:
        raise UserError("this model cannot exchange motions: its latent has no part for them alone")


# ------------------------------------------------------------------------------------------------
# The search


class _Rows(NamedTuple):
    """Latents `[B, Z]`, their labels `[B]` or None, and their losses `[B]`, the best first."""

    latents: Tensor
    labels: Tensor | None
    losses: Tensor

    def take(self, index: Tensor) -> "_Rows":
        labels = None if self.labels is None else self.labels[index]
        return _Rows(self.latents[index], labels, self.losses[index])

    def sorted(self) -> "_Rows":
        return self.take(self.losses.argsort(stable=True))


class _Search:
    def __init__(
        self,
        generator: Generator,
        target: Tensor,
        options: ProjectionOptions,
        features: Features | None,
        progress: Progress | None,
    ) -> None:
        _check_target(generator, target)
        self.generator, self.options = generator, options
        self.features, self.feature_scale = features, 1.0
        self.like = next(generator.parameters())
        self.target = to_float(target).to(self.like.device)
        self.deadline = time.monotonic() + 60 * options.minutes
        self.progress = progress or (lambda done, total, what: None)
        self.radii = [(part, _radius(part)) for part in _parts_of(generator)]

    def is_late(self) -> bool:
        return time.monotonic() > self.deadline

    def best(self, label: int | None) -> _Rows:
        """The best latent: one row."""
        starts = self.starts(label)
        wide = starts.latents.shape[1] * self.num_residuals() > MAX_DERIVATIVES
        found = self.descend(starts.take(torch.arange(min(DESCENDED, len(starts.losses)))), wide)
        if wide:
            return found.take(torch.tensor([0]))
        refined = []
        for row in range(min(self.options.refined, len(found.losses))):
            refined.append(self.solve(found.take(torch.tensor([row])), row))
            if self.is_late() or _recovers(refined[-1].losses):
                break
        return min(refined, key=lambda rows: float(rows.losses))

    # What is minimised

    @torch.no_grad()
    def clips(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Float clips of many latents, without a gradient."""
        rows = range(0, len(latents), BATCH)
        return torch.cat(
            [
                self.generator(
                    latents[i : i + BATCH], None if labels is None else labels[i : i + BATCH]
                )
                for i in rows
            ]
        )

    def residuals(self, clips: Tensor, labels: Tensor | None) -> Tensor:
        """Weighted differences `[B, R]` from the target; the loss is their sum of squares."""
        difference = clips - self.target
        terms = [(1.0, difference), (TEMPORAL_WEIGHT, difference.diff(dim=2))]
        while min(difference.shape[-2:]) >= 2 * COARSEST:
            difference = pool_clip(difference, (1, 2, 2))
            terms.append((PYRAMID_WEIGHT, difference))
        if self.features is not None:
            own = None if labels is None else labels[:1]
            wanted = self.features(self.target[None], own)
            away = (self.features(clips, labels) - wanted) / self.feature_scale
            terms.append((FEATURE_WEIGHT, away))
        scaled = [
            term.flatten(1) * math.sqrt(weight / term[0].numel())
            for weight, term in terms
            if term[0].numel()
        ]
        return torch.cat(scaled, dim=1)

    def num_residuals(self) -> int:
        """An upper bound of R, without features, which are few."""
        return 3 * self.target.numel()

    @torch.no_grad()
    def losses(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        parts = []
        for i in range(0, len(latents), BATCH):
            own = None if labels is None else labels[i : i + BATCH]
            clips = self.clips(latents[i : i + BATCH], own)
            parts.append(self.residuals(clips, own).square().sum(dim=1))
        return torch.cat(parts)

    def inside(self, latents: Tensor) -> Tensor:
        """The nearest latents in the ball."""
        latents = latents.clone()
        for part, radius in self.radii:
            length = latents[:, part].norm(dim=1, keepdim=True)
            latents[:, part] *= (radius / length.clamp_min(1e-12)).clamp_max(1)
        return latents

    # Its three stages

    def starts(self, label: int | None) -> _Rows:
        """Random latents in every class, the best first; sets what they are controls for."""
        num_classes = self.generator.num_classes
        classes = [label] if label is not None or not num_classes else list(range(num_classes))
        each = max(math.ceil(self.options.starts / len(classes)), LEAST_STARTS_A_CLASS)
        rows: list[_Rows] = []
        total, scores = torch.zeros_like(self.target), []
        for done, one in enumerate(classes):
            rng = keyed_rng(self.options.seed, "projection", -1 if one is None else one)
            latents = torch.randn(each, self.generator.latent_dim(), generator=rng).to(self.like)
            labels = None if one is None else torch.full((each,), one, device=self.like.device)
            for i in range(0, each, BATCH):
                own = None if labels is None else labels[i : i + BATCH]
                clips = self.clips(latents[i : i + BATCH], own)
                if self.features is not None and not rows:
                    spread = self.features(clips, own).std(dim=0).square().mean().sqrt()
                    self.feature_scale = max(float(spread), 1e-6)
                losses = self.residuals(clips, own).square().sum(dim=1)
                rows.append(_Rows(latents[i : i + BATCH], own, losses))
                scores += [_psnr(to_uint8(clip), to_uint8(self.target)) for clip in clips]
                total += clips.sum(dim=0)
            self.progress(done + 1, len(classes), "comparing random latents")
            if self.is_late():
                break
        self.num_starts = len(scores)
        mean_clip = _psnr(to_uint8(total / len(scores)), to_uint8(self.target))
        self.controls = (sum(scores) / len(scores), max(scores), mean_clip)
        joined = None if rows[0].labels is None else torch.cat([x.labels for x in rows])  # type: ignore[misc]
        latents = torch.cat([x.latents for x in rows])
        return _Rows(latents, joined, torch.cat([x.losses for x in rows])).sorted()

    def descend(self, rows: _Rows, alone: bool) -> _Rows:
        """Adam from some latents at once, the learning rate falling as a cosine.

        Written out, because the first optimizer of torch imports its compiler, for seconds.
        """
        steps = DESCENT_STEPS * (LONG_DESCENT if alone else 1)
        latents = rows.latents.clone().requires_grad_()
        mean, square = torch.zeros_like(rows.latents), torch.zeros_like(rows.latents)
        best = rows
        for step in range(steps + 1):
            self.progress(step, steps, "descending")
            clips = self.generator(latents, rows.labels)
            losses = self.residuals(clips, rows.labels).square().sum(dim=1)
            better = losses.detach() < best.losses
            best = best._replace(
                latents=torch.where(better[:, None], latents.detach(), best.latents),
                losses=torch.where(better, losses.detach(), best.losses),
            )
            if step == steps or self.is_late():
                break
            (gradient,) = torch.autograd.grad(losses.sum(), latents)
            mean = torch.lerp(gradient, mean, MEAN_DECAY)
            square = torch.lerp(gradient.square(), square, SQUARE_DECAY)
            rate = DESCENT_LR * (1 + math.cos(math.pi * step / steps)) / 2
            grown = step + 1
            size = (square / (1 - SQUARE_DECAY**grown)).sqrt() + 1e-8
            with torch.no_grad():
                latents -= rate * mean / (1 - MEAN_DECAY**grown) / size
                latents.copy_(self.inside(latents))
        return best.sorted()

    @torch.no_grad()
    def solve(self, row: _Rows, number: int) -> _Rows:
        """Damped least squares from one latent."""
        damping, losses = DAMPING, [float(row.losses)]
        what = f"refining latent {number + 1}"
        for step in range(self.options.steps):
            self.progress(step, self.options.steps, what)
            slopes, residuals = self.derivatives(row)
            normal = (slopes @ slopes.T).double()  # [Z, Z]
            gradient = (slopes @ residuals).double()
            scale = float(normal.diagonal().mean())
            for _ in range(MAX_REJECTED):
                damped = normal + damping * scale * torch.eye(len(normal), dtype=torch.float64).to(
                    normal.device
                )
                move = torch.linalg.solve(damped, -gradient).to(row.latents)
                latents = self.inside(row.latents + move)
                found = self.losses(latents, row.labels)
                if found < row.losses:
                    row, damping = row._replace(latents=latents, losses=found), damping / EASING
                    break
                damping *= EASING
            losses.append(float(row.losses))
            before = losses[max(0, len(losses) - 4)]
            if self.is_late() or (len(losses) > 3 and before - losses[-1] < ARRIVED * before):
                break
        self.progress(self.options.steps, self.options.steps, what)
        return row

    def derivatives(self, row: _Rows) -> tuple[Tensor, Tensor]:
        """Derivatives `[Z, R]` of the residuals `[R]` of one latent, by differences.

        Differences serve every generator; derivatives forward through a network would need one of
        each of its functions.
        """
        length = row.latents.shape[1]
        steps = PROBE * torch.eye(length, dtype=row.latents.dtype, device=row.latents.device)
        latents = torch.cat([row.latents, row.latents + steps])
        labels = None if row.labels is None else row.labels.expand(len(latents))
        parts = []
        for i in range(0, len(latents), BATCH):
            own = None if labels is None else labels[i : i + BATCH]
            parts.append(self.residuals(self.clips(latents[i : i + BATCH], own), own))
        found = torch.cat(parts)
        return (found[1:] - found[0]) / PROBE, found[0]


def check_label(generator: Generator, label: int | None) -> None:
    """Raise UserError for a class that the generator does not have."""
    if label is not None and not 0 <= label < generator.num_classes:
        raise UserError(
            f"there is no class {label}: this generator has {generator.num_classes} of them"
        )


def _check_target(generator: Generator, target: Tensor) -> None:
    if generator.context_frames:
        raise UserError(
            "this model continues given clips, and no latent holds a whole clip of it; use vidgan "
            "predict"
        )
    length = generator.latent_dim()
    if not length:
        raise UserError("this model has no latent, so no clip can be projected onto it")
    like = next(generator.parameters())
    labels = torch.zeros(1, dtype=torch.int64, device=like.device)
    with torch.no_grad():
        made = generator(torch.zeros(1, length).to(like), labels if generator.num_classes else None)
    if target.dtype != torch.uint8 or target.shape != made.shape[1:]:
        raise UserError(
            f"this generator makes clips [C, T, H, W] = {list(made.shape[1:])}; the given one must "
            f"be uint8 of this size, not {target.dtype} {list(target.shape)}"
        )


def _parts_of(generator: Generator) -> list[slice]:
    return [part for part in generator.latent_parts.values() if part.stop > part.start]


def _radius(part: slice) -> float:
    """Length that all but `OUTSIDE` of normal vectors of this dimension stay below."""
    from scipy.special import gammainccinv

    # The squared length is distributed as chi squared.
    return math.sqrt(2 * float(gammainccinv((part.stop - part.start) / 2, OUTSIDE)))


def _recovers(loss: Tensor) -> bool:
    """Whether a loss is that of a clip that needs no other try: of rounding alone, nearly."""
    return float(loss) < 4 * 10 ** (-40 / 10)


def _psnr(clip: Tensor, target: Tensor) -> float:
    return float(psnr(clip, target).mean())


def _explained(clip: Tensor, target: Tensor) -> float:
    error = (clip.double() - target.double()).square().mean()
    colour = target.double().mean(dim=(1, 2, 3), keepdim=True)
    variance = (target.double() - colour).square().mean()
    return float(1 - error / variance) if variance > 0 else float(error == 0)
