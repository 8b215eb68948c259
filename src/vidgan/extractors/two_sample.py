"""A classifier two-sample test (Lopez-Paz and Oquab 2017, arXiv:1610.06545), `own-c2st`.

A small network learns to separate generated from real clips and is scored on unseen clips.
If both sets have the same distribution, it can only guess.

Differences from the paper: the area under the ROC curve stands beside the accuracy,
cross-validation over several seeds takes the place of one split, and an interval that of a p-value.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.core.clip_ops import to_float
from vidgan.core.randomness import derive_seed, keyed_rng
from vidgan.errors import UserError

SMALL = 4
"""Pixels a side at which the network stops halving."""

MAX_CHANNELS = 128
FINE_LEVELS = 2 / 127.5
"""Two grey levels in [-1, 1]: above this size fine detail is scaled logarithmically, so that
edges do not mask faint noise."""

MIN_CLIPS = 8
"""Clips of each set that can be divided into training and test."""


@dataclass(frozen=True, kw_only=True)
class TwoSampleSettings:
    """How the classifier is built, trained and tested; part of its protocol."""

    folds: int = 2
    """Parts that the clips are divided into; each is scored by a network trained on the others."""
    seeds: int = 2
    """Divisions and networks that are averaged."""
    clips_seen: int = 5000
    """Training length of one network: clips shown, repeats included."""
    channels: int = 32
    """Of the first layer; they double to 128."""
    batch_size: int = 32
    learning_rate: float = 2e-3
    """Peak rate of AdamW; it rises over 30 % of the steps and falls along a cosine."""
    weight_decay: float = 0.05
    dropout: float = 0.5
    """Share of the last features that are dropped while training."""
    draws: int = 200
    """Resamples behind the interval."""

    def __post_init__(self) -> None:
        if self.folds < 2 or min(self.seeds, self.channels, self.draws) < 1:
            raise UserError(
                "two_sample needs folds of at least 2 and seeds, channels and draws of at least 1"
            )
        if self.batch_size < 2 or self.clips_seen < self.batch_size:
            raise UserError("two_sample needs clips_seen >= batch_size >= 2")


@dataclass(frozen=True)
class TwoSampleResult:
    """The classifier's results on unseen clips.

    Attributes:
        auc: probability that a generated clip looks more generated to it than a real one; 0.5 is
            perfect, 1 is complete separation.
        accuracy: share of clips classified correctly, half of them real.
        intervals: by name the ends between which 95 % of the resamples lie.
    """

    auc: float
    accuracy: float
    intervals: dict[str, tuple[float, float]]

    def as_record(self) -> dict[str, Any]:
        """Plain values for a JSON record."""
        return asdict(self)


def two_sample_test(
    fake: Tensor, real: Tensor, settings: TwoSampleSettings | None = None, seed: int = 0
) -> TwoSampleResult:
    """Train a classifier to separate two sets of clips.

    Args:
        fake, real: uint8 `[M, C, T, H, W]` of one shape; of the larger set the first clips count.
        settings: None for the defaults.
        seed: of divisions, networks and resamples.

    Raises:
        UserError: fewer than 8 clips of either set.
    """
    settings = settings or TwoSampleSettings()
    count = min(fake.shape[0], real.shape[0])
    if count < max(MIN_CLIPS, settings.folds):
        raise UserError(f"a two-sample test needs {MIN_CLIPS} clips of each set, got {count}")
    inputs = _inputs(torch.cat([fake[:count], real[:count]]))
    logits = torch.stack(
        [_cross_validated(inputs, count, settings, seed, k) for k in range(settings.seeds)]
    ).view(settings.seeds, 2, count)
    ours, theirs = logits[:, 0], logits[:, 1]
    rng = keyed_rng(seed, "two-sample interval")
    draws = []
    for _ in range(settings.draws):
        a, b = (torch.randint(count, (count,), generator=rng) for _ in range(2))
        which = torch.randint(settings.seeds, (settings.seeds,), generator=rng)
        draws.append(_scores(ours[which][:, a], theirs[which][:, b]))
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.tensor(draws, dtype=torch.float64).quantile(ends, 0).tolist()
    auc, accuracy = _scores(ours, theirs)
    intervals = {"auc": (low[0], high[0]), "accuracy": (low[1], high[1])}
    return TwoSampleResult(auc, accuracy, intervals)


def _inputs(clips: Tensor) -> Tensor:
    """Frames as channels, and beside them their fine detail, `[M, 2 C T, H, W]`."""
    frames = to_float(clips).flatten(1, 2)
    smooth = F.avg_pool2d(frames, 3, 1, 1, count_include_pad=False)
    fine = torch.asinh((frames - smooth) / FINE_LEVELS)
    both = torch.cat([frames, fine / fine.std().clamp_min(1e-6)], 1)
    return both - both.mean(0)


def _cross_validated(
    inputs: Tensor, count: int, settings: TwoSampleSettings, seed: int, repeat: int
) -> Tensor:
    """A logit for every clip, `[2 count]`, each of a network that was trained without its fold."""
    order = torch.randperm(count, generator=keyed_rng(seed, "two-sample folds", repeat))
    is_fake = torch.arange(2 * count) < count
    logits = torch.zeros(2 * count, dtype=torch.float64)
    for fold in range(settings.folds):
        part = order[fold :: settings.folds]
        tested = torch.cat([part, part + count])
        trained = torch.ones(2 * count, dtype=torch.bool)
        trained[tested] = False
        network_seed = derive_seed(seed, "two-sample network", repeat, fold)
        network = _fit(inputs[trained], is_fake[trained].float(), settings, network_seed)
        with torch.no_grad():
            rows = torch.cat([network(chunk)[:, 0] for chunk in torch.split(inputs[tested], 256)])
        # Networks of different folds differ in scale and offset: their ranks are comparable.
        logits[tested] = (rows / rows.std().clamp_min(1e-6)).double()
    return logits


def _fit(inputs: Tensor, is_fake: Tensor, settings: TwoSampleSettings, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _build(inputs.shape[1], inputs.shape[2], inputs.shape[3], settings)
        optimizer = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        num_steps = settings.clips_seen // settings.batch_size
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, total_steps=num_steps + 1
        )
        rows = torch.empty(0, dtype=torch.int64)
        for _ in range(num_steps):
            while rows.shape[0] < settings.batch_size:
                rows = torch.cat([rows, torch.randperm(inputs.shape[0])])
            batch, rows = rows[: settings.batch_size], rows[settings.batch_size :]
            loss = F.binary_cross_entropy_with_logits(network(inputs[batch])[:, 0], is_fake[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def _build(channels: int, height: int, width: int, settings: TwoSampleSettings) -> nn.Module:
    layers: list[nn.Module] = []
    wide = settings.channels
    while max(height, width) > SMALL:
        layers += [nn.Conv2d(channels, wide, 3, 2, 1, bias=False), nn.BatchNorm2d(wide)]
        layers.append(nn.LeakyReLU(0.2))
        channels, wide = wide, min(2 * wide, MAX_CHANNELS)
        height, width = (height + 1) // 2, (width + 1) // 2
    head = nn.Linear(channels * height * width, 1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(settings.dropout), head)


def _scores(fake: Tensor, real: Tensor) -> tuple[float, float]:
    """Mean area under the ROC curve and accuracy over the rows of logits `[S, M]`."""
    count = fake.shape[1]
    joined = torch.cat([fake, real], 1)
    # Equal logits share a rank, so that an uninformative network scores 0.5.
    ordered = joined.sort(1).values
    low = torch.searchsorted(ordered, fake.contiguous())
    high = torch.searchsorted(ordered, fake.contiguous(), right=True)
    ranks = (low + high + 1).double() / 2
    auc = (ranks.sum(1) - count * (count + 1) / 2) / count**2
    right = (fake > 0).double().mean(1) / 2 + (real <= 0).double().mean(1) / 2
    return float(auc.mean()), float(right.mean())
