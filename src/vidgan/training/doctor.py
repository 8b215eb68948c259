"""The training doctor: cheap looks at a run, and what they mean.

Every so many steps the generator makes a few clips from latents that stay the same, and they are
held against training clips: whether they differ from each other, move, keep their colours and
answer to their latents. What is found goes into the log; what lasts is told with its likely cause
and one change. Nothing here draws a number of the run or moves a weight, so training has the same
bits with and without it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vidgan.core.clip_ops import to_float, to_uint8
from vidgan.core.randomness import BatchRandom, keyed_rng
from vidgan.data.dataset import ClipDataset, ClipRequest
from vidgan.metrics.memorisation import coloured
from vidgan.models.base import GAN, Stage
from vidgan.training.ema import named_parameters, player_settings
from vidgan.training.schedule import per_level
from vidgan.training.step import TrainingStep
from vidgan.video import tile_clips, write_mp4

EVERY = 20
"""Steps between two looks, at least; they are taken where a line of the log is due."""
NUM_FAKES = 16
NUM_REALS = 64
LASTING = 5
"""Looks in a row that have to show the same before it is told."""
FIRST_STEPS = 50
"""The first look of a run says how weights grow if it is taken by this step. Adam's updates are as
large as the rate allows; once weights have grown by them, none of them looks large any more."""
GRACE = {"stop": 0.1, "warn": 0.5}
"""Share of a run, by severity, in which nothing is told. Every generator begins with clips that are
all alike; colours that wander together, flicker and a lack of variety are common in healthy runs
until their middle (most of what is trained at 16 px in minutes)."""
GRACE_CLIPS = 100_000
"""However long a run is, more clips than these are no reason to wait."""
EVIDENCE_CLIPS = 8
EARLY = "early"
"""Verdict on a run in which nothing was found, and not all rules apply yet."""

Severity = Literal["warn", "stop"]
Values = Mapping[str, float]


@dataclass(frozen=True)
class Rule:
    """What is told if a value lasts beyond a limit.

    Attributes:
        name: of the trouble.
        severity: `stop` if the run will not come back by itself.
        holds: whether the values of a look show it.
        shows: names of the values that are its evidence.
        cause: the likely cause, as a clause.
        change: one thing to do, with the setting.
        lasting: looks in a row that have to show it; the first look of a run is enough for 1.
    """

    name: str
    severity: Severity
    holds: Callable[[Values], bool]
    shows: tuple[str, ...]
    cause: str
    change: str
    lasting: int = LASTING


def _below(name: str, limit: float) -> Callable[[Values], bool]:
    return lambda values: values.get(name, math.inf) < limit


def _above(name: str, limit: float) -> Callable[[Values], bool]:
    return lambda values: values.get(name, -math.inf) > limit


def _alike_in_colour(values: Values) -> bool:
    """Colours that agree over a batch whose clips differ otherwise."""
    return _below("colour_spread", 0.1)(values) and not _below("diversity", 0.1)(values)


LOWER_RATES = "lower training.generator.lr and training.discriminator.lr tenfold"

RULES = (
    Rule(
        "learning rate",
        "stop",
        lambda values: (
            max(values.get(f"update_{p}", 0.0) for p in ("generator", "discriminator")) > 0.05
        ),
        ("update_generator", "update_discriminator"),
        "a single update changes the weights by more than a twentieth of their size",
        LOWER_RATES,
    ),
    Rule(
        "learning rate of the first steps",
        "stop",
        _above("growth", 1.2),
        ("growth",),
        "the first updates make the weights grow so much that little of their start is left",
        LOWER_RATES,
        lasting=1,
    ),
    Rule(
        "penalty",
        "warn",
        _above("penalty", 100.0),
        ("penalty",),
        "the discriminator is far steeper than its penalty allows",
        "lower training.discriminator.lr, or raise the weight of the penalty",
    ),
    Rule(
        "dead generator",
        "stop",
        _below("diversity", 1e-3),
        ("diversity", "gradient_ratio"),
        "whatever its latent, the generator makes one and the same clip",
        "start anew with another loss (loss=ns-r1) or a lower training.generator.lr",
    ),
    Rule(
        "collapse",
        "warn",
        lambda values: 1e-3 <= values.get("diversity", 1.0) < 0.05,
        ("diversity", "sign_accuracy"),
        "generated clips differ far less from each other than real ones",
        "raise the weight of the penalty, or lower training.generator.lr",
    ),
    Rule(
        "latent ignored",
        "warn",
        _below("within_class", 0.05),
        ("within_class",),
        "the clips of a class are nearly the same whatever the latent: the label alone is used",
        "lower loss.class_weight, or train without labels (model.conditioning=none)",
    ),
    Rule(
        "frozen",
        "warn",
        _below("motion", 0.1),
        ("motion",),
        "generated clips hardly move where real ones do",
        "train on more frames, or take a model whose discriminator sees whole clips",
    ),
    Rule(
        "flicker",
        "warn",
        _above("motion", 4.0),
        ("motion",),
        "generated frames differ far more from one to the next than real ones",
        "train longer at the low levels, or lower training.generator.lr",
    ),
    Rule(
        "backgrounds alike",
        "warn",
        _alike_in_colour,
        ("colour_spread", "diversity"),
        "all clips of a batch have the same colours where real ones differ",
        "set training.augment.colour=1, or raise the weight of the penalty",
    ),
    Rule(
        "turning in circles",
        "warn",
        lambda values: _above("colour_drift", 0.5)(values) and _below("colour_spread", 0.3)(values),
        ("colour_drift", "colour_spread"),
        "the colour of all clips together wanders while they agree: the two networks chase each"
        " other",
        "lower training.generator.lr, or raise the weight of the penalty",
    ),
    Rule(
        "copies",
        "warn",
        _below("nearest", 0.2),
        ("nearest",),
        "generated clips are far nearer to training clips than those are to each other",
        "use more clips, or stop here: the set is being learned by heart",
    ),
    Rule(
        "duplicated data",
        "warn",
        _above("duplicates", 0.25),
        ("duplicates",),
        "many training clips are one and the same",
        "remove the copies with vidgan data check, or set data.quality.duplicates=drop",
    ),
)


@dataclass(frozen=True)
class Finding:
    """Something that lasted.

    Attributes:
        name: of the rule.
        severity: `warn` or `stop`.
        sentence: what it is, its evidence, the likely cause and a change.
    """

    name: str
    severity: Severity
    sentence: str


class TrainingDoctor:
    """Looks at a run; only the first process has one.

    Args:
        dataset: the training clips.
        seed: of the run.
        total_clips: of its schedule.
        earlier: lines of the log, whose looks count as this one's.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        seed: int,
        total_clips: int,
        earlier: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.dataset, self.seed, self.total_clips = dataset, seed, total_clips
        self.history: list[tuple[int, int, Values]] = []
        self._repeated = repeated_share(dataset)
        self._starts: dict[str, dict[str, float]] = {}
        self.rewind(earlier)
        self.clips: tuple[Tensor, Tensor] | None = None
        self._real: tuple[Stage, Tensor, Tensor | None] | None = None

    def rewind(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Take the looks in lines of a log as those that were taken."""
        self.history = [
            (line["step"], line.get("level", 0), found["values"])
            for line in lines
            if (found := looks_of(line)) is not None
        ]

    @torch.no_grad()
    def begin(self, step: TrainingStep) -> None:
        """Note the size of every weight of a run that has not taken a step."""
        for player in step.optimizers:
            sizes = {name: float(w.norm()) for name, w in named_parameters(step.gan, player)}
            self._starts[player] = sizes

    @torch.no_grad()
    def growth(self, step: TrainingStep) -> dict[str, float]:
        """Size of the weights that moved, over their size at the start: of the player that grew
        most."""
        found = []
        for player, starts in self._starts.items():
            moved = [
                (float(weight.norm()), starts[name])
                for name, weight in named_parameters(step.gan, player)
                if step.optimizers[player].state.get(weight)
            ]
            if moved:
                now, before = (math.hypot(*sizes) for sizes in zip(*moved, strict=True))
                found.append(_ratio(now, before))
        return {"growth": max(found)} if found else {}

    def is_due(self, number: int) -> bool:
        """Whether step `number` is to be looked at, if a line of the log is written for it."""
        last = self.history[-1][0] if self.history else 0
        return number // EVERY != last // EVERY

    def look(
        self, step: TrainingStep, number: int, losses: Mapping[str, float], clips_seen: int
    ) -> "Look":
        """Look at the networks as they are; no gradient is computed and nothing is moved."""
        stage = step.stage
        assert stage is not None
        values = self.measure(step, stage, losses)
        if not self.history and number <= FIRST_STEPS:
            values |= self.growth(step)
        self.history.append((number, stage.level, values))
        recent = [v for _, level, v in self.history[-LASTING:] if level == stage.level]
        applied = [
            rule
            for rule in RULES
            if rule.lasting == 1
            or (
                len(recent) == LASTING
                and clips_seen >= min(GRACE[rule.severity] * self.total_clips, GRACE_CLIPS)
            )
        ]
        findings = tuple(
            Finding(rule.name, rule.severity, in_words(rule, values))
            for rule in applied
            if all(rule.holds(earlier) for earlier in recent[-rule.lasting :])
        )
        return Look(values, findings, is_early=len(applied) < len(RULES))

    @torch.no_grad()
    def measure(
        self, step: TrainingStep, stage: Stage, losses: Mapping[str, float]
    ) -> dict[str, float]:
        """The values of one look."""
        values = weights_in_motion(step, stage)
        penalties = step.loss.penalties
        sizes = [v for name, v in losses.items() if name.rpartition("/")[2] in penalties]
        if sizes:
            values["penalty"] = max(sizes)
        size = min(NUM_FAKES, max(4, stage.batch_size)) // 2 * 2
        real, labels = self.real_clips(stage)
        real = real.to(step.processes.device, next(step.gan.generator.parameters()).dtype)
        with _evaluating(step.gan), step.autocast():
            fake, asked_for = self.fakes(step, real, labels, size)
            values |= self.scores(step, real[:size], fake, labels, asked_for)
        values |= clip_ratios(real, fake, asked_for)
        values["duplicates"] = max(values.get("duplicates", 0.0), self._repeated)
        self.clips = real[:EVIDENCE_CLIPS], fake[:EVIDENCE_CLIPS]
        values |= self.drift(real, values)
        return {name: round(value, 6) for name, value in values.items() if math.isfinite(value)}

    def drift(self, real: Tensor, values: Values) -> dict[str, float]:
        """How far the mean colour of all clips moved over the last looks, against how far single
        training clips lie apart."""
        names = [f"mean_colour_{channel}" for channel in range(real.shape[1])]
        looks = [*(earlier for _, _, earlier in self.history[-2 * LASTING + 1 :]), values]
        rows = [[look[name] for name in names] for look in looks if names[0] in look]
        if len(rows) < LASTING:
            return {}
        moved = float(torch.tensor(rows).std(dim=0).mean())
        return {"colour_drift": _ratio(moved, float(_colours(real).std(dim=0).mean()))}

    def real_clips(self, stage: Stage) -> tuple[Tensor, Tensor | None]:
        """The first training clips of the run at a stage's size, in [-1, 1], and their labels."""
        known = self._real
        if known is None or known[0].level != stage.level:
            count = min(NUM_REALS, self.dataset.num_clips)
            samples = [
                self.dataset[ClipRequest(i, stage.frames, stage.resolution)] for i in range(count)
            ]
            labels = torch.tensor([sample["label"] for sample in samples])
            clips = to_float(torch.stack([sample["clip"] for sample in samples]))
            known = stage, clips, labels if self.dataset.num_classes else None
            self._real = known
        return known[1], known[2]

    def fakes(
        self, step: TrainingStep, real: Tensor, labels: Tensor | None, size: int
    ) -> tuple[Tensor, Tensor | None]:
        """Clips from latents that stay the same; two neighbours share their label."""
        generator, device = step.gan.generator, real.device
        context = None
        if generator.context_frames or generator.context_overlap:
            given = real.repeat(-(-size // len(real)), 1, 1, 1, 1)[:size]
            rng = BatchRandom((self.seed, "doctor", "context"), size, 0, size, device)
            context, _ = step.gan.make_context(given, rng)
        latent = torch.randn(
            size, generator.latent_dim(), generator=keyed_rng(self.seed, "doctor", "latents")
        )
        asked_for = None
        if generator.num_classes:
            asked_for = (torch.arange(size, device=device) // 2) % generator.num_classes
        clips = generator(latent.to(device, real.dtype), asked_for, context)
        return clips.to(real.dtype), asked_for

    def scores(
        self,
        step: TrainingStep,
        real: Tensor,
        fake: Tensor,
        labels: Tensor | None,
        asked_for: Tensor | None,
    ) -> dict[str, float]:
        """How surely the discriminators tell real from generated: share of pairs in the right
        order, 0.5 by chance; and how far the mean scores are apart."""
        if step.gan.generator.context_frames or fake.shape[1:] != real.shape[1:]:
            return {}
        given = None if asked_for is None or labels is None else labels[: len(real)].to(real.device)
        real = step.gan.prepare_real(real)
        shares, gaps = [], []
        for discriminator in step.gan.discriminators.values():
            of_real = discriminator(real, given).realness.float().mean(dim=1)
            of_fake = discriminator(fake, asked_for).realness.float().mean(dim=1)
            order = (of_real[:, None] - of_fake[None]).sign()
            shares.append(float((order + 1).mean()) / 2)
            gaps.append(float(of_real.mean() - of_fake.mean()))
        return {
            "sign_accuracy": sum(shares) / len(shares),
            "critic_gap": sum(gaps) / len(gaps),
        }

    def write_evidence(self, path: Path, fps: float) -> None:
        """A small film: generated clips above, training clips below."""
        if self.clips is None:
            return
        real, fake = (to_uint8(clips.float().cpu()) for clips in self.clips)
        count = min(len(real), len(fake), EVIDENCE_CLIPS)
        if real.shape[1:] == fake.shape[1:]:
            grid = torch.cat([fake[:count], real[:count]])
        else:
            grid = fake[:count]
        path.parent.mkdir(exist_ok=True)
        scale = max(1, 64 // grid.shape[-1])
        write_mp4(path, tile_clips(grid, columns=count, scale=scale), fps)


@dataclass(frozen=True)
class Look:
    """What one look showed, and whether the run is too young for some of the rules."""

    values: Values
    findings: tuple[Finding, ...]
    is_early: bool = False

    @property
    def verdict(self) -> str:
        """`stop` or `warn` for what was found; else `early`, or `healthy` if all rules apply."""
        severities = {finding.severity for finding in self.findings}
        if severities:
            return "stop" if "stop" in severities else "warn"
        return EARLY if self.is_early else "healthy"

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a line of the log."""
        return {
            "verdict": self.verdict,
            "values": dict(self.values),
            "findings": [asdict(finding) for finding in self.findings],
        }


def repeated_share(dataset: ClipDataset) -> float:
    """Share of training clips that another one equals, as far as stored checksums tell."""
    items = dataset.store.items
    sums = [item.checksums for item in items if item.split == "train" and item.checksums]
    counts = Counter(sums)
    return sum(count for count in counts.values() if count > 1) / max(1, len(sums))


def looks_of(line: Mapping[str, Any]) -> dict[str, Any] | None:
    """The look in a line of a log, if there is one and it is such as `Look.to_dict` gives."""
    found = line.get("doctor")
    if not isinstance(found, dict):
        return None
    values, findings = found.get("values"), found.get("findings")
    if not isinstance(values, dict) or not isinstance(findings, list):
        return None
    numbers = all(isinstance(value, int | float) for value in values.values())
    told = all(isinstance(one, dict) and isinstance(one.get("sentence"), str) for one in findings)
    return found if numbers and told else None


def in_words(rule: Rule, values: Values) -> str:
    """A finding as a sentence."""
    shown = ", ".join(
        f"{name.replace('_', ' ')} {values[name]:.3g}" for name in rule.shows if name in values
    )
    return f"{rule.name} ({shown}): {rule.cause}; {rule.change}"


@contextmanager
def _evaluating(gan: GAN) -> Iterator[None]:
    """Networks that move no statistics."""
    gan.train(False)
    try:
        yield
    finally:
        gan.train()


# ------------------------------------------------------------------------------------------------
# Values of clips


def _colours(clips: Tensor) -> Tensor:
    """Mean colour of every clip, `[B, C]`."""
    return clips.float().mean(dim=(2, 3, 4))


def _motion(clips: Tensor) -> float:
    """Mean absolute difference of neighbouring frames."""
    return float(clips.float().diff(dim=2).abs().mean()) if clips.shape[2] > 1 else math.nan


def _mean_distance(rows: Tensor) -> float:
    """Mean distance of different rows."""
    return float(F.pdist(rows).mean()) if len(rows) > 1 else math.nan


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def clip_ratios(real: Tensor, fake: Tensor, labels: Tensor | None) -> dict[str, float]:
    """Generated clips against training clips, all ratios 1 where they are alike.

    Args:
        real: `[N, C, T, H, W]` in [-1, 1].
        fake: `[B, C, T, H, W]` of the same size.
        labels: `[B]`; neighbours 2i and 2i + 1 have the same, or None.
    """
    values = {
        "motion": _ratio(_motion(fake), _motion(real)),
        "loopiness": _ratio(_loop(fake), _loop(real)),
        "colour_spread": _ratio(
            float(_colours(fake).std(dim=0).mean()), float(_colours(real).std(dim=0).mean())
        ),
        "brightness": _ratio(
            float(_colours(fake).mean(dim=1).std()), float(_colours(real).mean(dim=1).std())
        ),
    }
    for channel, mean in enumerate(_colours(fake).mean(dim=0).tolist()):
        values[f"mean_colour_{channel}"] = mean
    if fake.shape[1:] != real.shape[1:]:
        return values
    of_real, of_fake = coloured(real.float()), coloured(fake.float())
    distances = torch.cdist(of_real, of_real)
    distances.fill_diagonal_(math.inf)
    values["diversity"] = _ratio(_mean_distance(of_fake), _mean_distance(of_real))
    values["nearest"] = _ratio(
        float(torch.cdist(of_fake, of_real).amin(dim=1).median()),
        float(distances.amin(dim=1).median()),
    )
    values["duplicates"] = float((distances.amin(dim=1) == 0).float().mean())
    if labels is not None:
        within = float((of_fake[::2] - of_fake[1::2]).norm(dim=1).mean())
        values["within_class"] = _ratio(within, _mean_distance(of_fake))
    return values


def _loop(clips: Tensor) -> float:
    """How far the last frame is from the first one, against the one half way; 0 for a loop."""
    if clips.shape[2] < 3:
        return math.nan
    first = clips[:, :, 0].float()
    far = (clips[:, :, -1].float() - first).abs().mean()
    half = (clips[:, :, clips.shape[2] // 2].float() - first).abs().mean()
    return _ratio(float(far), float(half))


# ------------------------------------------------------------------------------------------------
# Values of weights


def weights_in_motion(step: TrainingStep, stage: Stage) -> dict[str, float]:
    """Size of the last update against that of the weights, and of the gradients, both read from
    the moments of Adam."""
    values, sizes = {}, {}
    for player, optimizer in step.optimizers.items():
        config = player_settings(step.settings, player)
        if config.kind != "adam":
            continue
        rate = per_level(config.lr, step.num_levels, "lr")[stage.level]
        updates, weights, squares, count = [], [], [], 0
        for _, parameter in named_parameters(step.gan, player):
            state = optimizer.state.get(parameter)
            if not state or not parameter.requires_grad:
                continue
            steps = float(state["step"])
            first, second = (1 - beta**steps if beta else 1.0 for beta in config.betas)
            root = (state["exp_avg_sq"] / second).sqrt()
            updates.append((state["exp_avg"] / first / (root + config.eps)).norm())
            squares.append(root.norm())
            weights.append(parameter.norm())
            count += parameter.numel()
        if not updates:
            continue
        norms = [torch.stack(list(parts)).norm() for parts in (updates, weights, squares)]
        update, weight, gradient = torch.stack(norms).tolist()
        values[f"update_{player}"] = _ratio(rate * update, weight)
        sizes[player] = gradient / math.sqrt(count)
    if len(sizes) == 2:
        values["gradient_ratio"] = _ratio(sizes["generator"], sizes["discriminator"])
    return values
