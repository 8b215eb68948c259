"""The judge: a classifier trained on the user's own real videos, labelled or not.

It is used where no published weights are available or suitable. It is trained on real training
videos only, validated on other real videos, and never trained on generated clips. Scores on its
features and probabilities compare generators on the same data with the same judge and nothing else.
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from vidgan.core.clip_ops import full_batches, to_float
from vidgan.core.files import (
    one_at_a_time,
    read_json,
    write_file_atomically,
    write_folder_atomically,
    write_json_atomically,
)
from vidgan.core.machine import has_bfloat16
from vidgan.core.randomness import Key, derive_seed, keyed_rng
from vidgan.core.settings import from_dict
from vidgan.errors import UserError
from vidgan.extractors.extractor import exact_arithmetic
from vidgan.extractors.networks.own_c3d import ClipClassifier, ClipShape
from vidgan.extractors.pretext import PRETEXT_CLASSES, change_clips, every_change, random_changes
from vidgan.metrics.intervals import (
    AttributeGrid,
    agreement,
    chance_accuracy,
    expected_calibration_error,
)

# ------------------------------------------------------------------------------------------------
# The judge's training data: a split by video, and augmentation that preserves motion


@dataclass(frozen=True)
class RealClips:
    """Real clips of one split.

    Attributes:
        clips: uint8 `[M, C, T, H, W]`.
        labels: int64 `[M]`; -1 without classes.
        video_ids: source video of every clip.
    """

    clips: Tensor
    labels: Tensor
    video_ids: tuple[str, ...]

    def take(self, rows: Tensor) -> "RealClips":
        """The clips in `rows`, int64."""
        ids = tuple(self.video_ids[row] for row in rows.tolist())
        return RealClips(self.clips[rows], self.labels[rows], ids)

    def __len__(self) -> int:
        return self.clips.shape[0]


def split_by_video(
    labels: Tensor, video_ids: Sequence[Hashable], share: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Row indices for training and for validation; no video is on both sides.

    Within each class a seeded `share` of the videos, at least one, goes to validation, unless the
    class has a single video, which then trains.

    Args:
        labels: int64 `[M]`, one per clip.
        video_ids: M names of source videos.
        share: share of videos for validation, in (0, 1).
        seed: chooses the videos.

    Raises:
        UserError: no class has two videos.
    """
    if len(video_ids) != labels.shape[0]:
        raise ValueError(f"{len(video_ids)} video ids for {labels.shape[0]} clips")
    held_out: set[Hashable] = set()
    class_of: dict[Hashable, int] = {}
    for video, label in zip(video_ids, labels.tolist(), strict=True):
        class_of.setdefault(video, label)
    for label in sorted(set(class_of.values())):
        videos = sorted((v for v, owner in class_of.items() if owner == label), key=repr)
        order = torch.randperm(len(videos), generator=keyed_rng(seed, "judge split", label))
        count = max(1, round(share * len(videos))) if len(videos) > 1 else 0
        held_out.update(videos[i] for i in order[:count].tolist())
    if not held_out:
        raise UserError(
            "the judge cannot be validated: no class has two videos; add "
            "videos or evaluate without it (protocol=stswd)"
        )
    is_held_out = torch.tensor([video in held_out for video in video_ids])
    return (~is_held_out).nonzero()[:, 0], is_held_out.nonzero()[:, 0]


def augment_keeping_motion(
    clips: Tensor, rng: torch.Generator, *, colour: bool, shift: float, mirror: bool
) -> Tensor:
    """Float clips `[B, C, T, H, W]` with one random colour map, shift and mirror a clip.

    Colour is made uninformative: channels change places, and each gets a gain in 0.7..1.3 and
    its own offset in +-0.25. Motion is preserved: a clip moves as a whole, frames keep their
    order.

    Args:
        clips: uint8 `[B, C, T, H, W]`.
        rng: source of the draws.
        colour: whether colours change.
        shift: largest shift as a share of height and width; the edge is repeated.
        mirror: whether half of the clips are mirrored, left to right.
    """
    b, c, _, h, w = clips.shape
    if mirror:
        flipped = torch.rand(b, generator=rng) < 0.5
        clips = torch.where(flipped[:, None, None, None, None], clips.flip(-1), clips)
    if shift > 0:
        rows = _shifted_indices(b, h, shift, rng)[:, None, None, :, None].expand_as(clips)
        columns = _shifted_indices(b, w, shift, rng)[:, None, None, None, :].expand_as(clips)
        clips = clips.gather(3, rows).gather(4, columns)
    out = to_float(clips)
    if colour:
        order = torch.rand(b, c, generator=rng).argsort(1)
        out = out.gather(1, order[:, :, None, None, None].expand_as(out))
        gain = 0.7 + 0.6 * torch.rand(b, c, 1, 1, 1, generator=rng)
        out = out * gain + 0.5 * torch.rand(b, c, 1, 1, 1, generator=rng) - 0.25
    return out


def shuffled_batches(
    indices: Tensor, batch_size: int, num_batches: int, key: tuple[Key, ...]
) -> list[Tensor]:
    """Index batches that walk through a fresh shuffle of `indices` in every epoch."""
    epochs = -(-num_batches * batch_size // max(1, indices.shape[0]))
    rng = keyed_rng(*key)
    order = [indices[torch.randperm(indices.shape[0], generator=rng)] for _ in range(epochs)]
    walk = torch.cat(order)[: num_batches * batch_size]
    return list(torch.split(walk, batch_size))


def _shifted_indices(count: int, size: int, shift: float, rng: torch.Generator) -> Tensor:
    reach = int(shift * size)
    offsets = torch.randint(-reach, reach + 1, (count, 1), generator=rng)
    return (torch.arange(size) + offsets).clamp(0, size - 1)


# ------------------------------------------------------------------------------------------------
# The judge: a classifier trained on the user's own real videos, labelled or not

SCHEMA_VERSION = 1
EXTRACTION_BATCH = 32
WEIGHTS_FILE, CARD_FILE = "classifier.safetensors", "classifier.json"
REPORT_TOLERANCE = 0.02  # of shares on a card, which may come from another machine


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """How the judge is built and trained; part of its identity."""

    width: float = 0.25
    """Scale of the channel counts 64, 128, 256, 512."""
    feature_dim: int = 128
    """Length of the features that distances are measured on."""
    dropout: float = 0.0
    """Share of features dropped while training."""
    clips_seen: int = 24_000
    """Training length: clips shown, repeats included; a count and not a time, so it repeats."""
    batch_size: int = 32
    learning_rate: float = 2e-3
    """Peak rate of AdamW; it rises over 15 % of the steps and falls to 0 along a cosine."""
    weight_decay: float = 0.01
    validation_share: float = 0.15
    """Share of each class's videos kept for checking the judge."""
    colour: bool = True
    """Whether colours are scrambled in training, so that only shape and motion are informative."""
    shift: float = 0.1
    """Largest random shift in training, as a share of height and width."""
    mirror: bool = False
    """Whether clips are mirrored in training; wrong if classes distinguish left from right."""
    task: Literal["classes", "changes"] = "classes"
    """What the judge classifies: the classes of the data or, without classes, the change
    applied to a clip; see `vidgan.extractors.pretext`."""
    gate_multiple: float = 5.0
    """Scores are given only if the accuracy on validation videos reaches this multiple of chance
    (or half way from chance to 1, if that is less)."""

    def __post_init__(self) -> None:
        if self.clips_seen < self.batch_size or self.batch_size < 2:
            raise UserError(
                f"the classifier needs clips_seen >= batch_size >= 2, got clips_seen="
                f"{self.clips_seen} and batch_size={self.batch_size}"
            )
        if not 0 < self.validation_share < 1:
            raise UserError(
                f"the classifier's validation_share must lie in (0, 1), got {self.validation_share}"
            )


class Extraction(NamedTuple):
    """One pass of the judge: features `[M, F]` and probabilities `[M, N]`, float32."""

    features: Tensor
    probabilities: Tensor


class OwnClassifier:
    """A trained judge of clips of one shape.

    Attributes:
        classes: N names.
        clip_shape: (C, T, H, W) it was trained on.
        settings: how it was trained.
        report: plain values: seed, counts, validation accuracy (joint, object, motion), chance,
            calibration error, training seconds.
    """

    def __init__(
        self,
        network: ClipClassifier,
        classes: Sequence[str],
        clip_shape: ClipShape,
        settings: ClassifierSettings,
        report: dict[str, Any],
    ) -> None:
        self.network = network.eval()
        self.classes = tuple(classes)
        self.clip_shape = clip_shape
        self.settings = settings
        self.report = report

    @property
    def name(self) -> str:
        """Its name as an extractor."""
        return "own-c3d" if self.settings.task == "classes" else "own-ssl"

    @property
    def required_accuracy(self) -> float:
        """Validation accuracy below which no score is given."""
        chance = float(self.report["chance"])
        return min(self.settings.gate_multiple * chance, (1 + chance) / 2)

    @property
    def passed(self) -> bool:
        """Whether the judge is accurate enough for scores."""
        return float(self.report["accuracy"]["joint"]) >= self.required_accuracy

    @property
    def dim(self) -> int:
        """F, the length of its features."""
        return self.settings.feature_dim

    @property
    def fingerprint(self) -> str:
        """Hash of the weights."""
        return self.hash

    def record(self) -> dict[str, Any]:
        """Everything that decides its features, as plain values."""
        return {
            "name": self.name,
            "layer": "penultimate, after ReLU",
            "dim": self.dim,
            "width": self.settings.width,
            "clip_shape": list(self.clip_shape),
            "fingerprint": self.fingerprint,
        }

    def arrays(self, clips: Tensor) -> dict[str, Tensor]:
        """`extract` as a dictionary, what every extractor gives."""
        return self.extract(clips)._asdict()

    @torch.no_grad()
    def extract(self, clips: Tensor) -> Extraction:
        """Features and probabilities of uint8 (or float, in [-1, 1]) clips `[M, C, T, H, W]`.

        A pure function of each clip: no randomness, batches of fixed size, float32.

        Raises:
            UserError: the clips do not have the shape the judge was trained on.
        """
        if tuple(clips.shape[1:]) != self.clip_shape:
            raise UserError(
                f"the classifier was trained on clips of (C, T, H, W) = {self.clip_shape} and got "
                f"{tuple(clips.shape[1:])}; train one for this shape"
            )
        if clips.shape[0] == 0:
            raise ValueError("there is no clip to extract features from")
        device = next(self.network.parameters()).device
        features, probabilities = [], []
        with exact_arithmetic():
            for batch, count in full_batches(clips, EXTRACTION_BATCH):
                floats = to_float(batch) if batch.dtype == torch.uint8 else batch.float()
                output = self.network(floats.to(device, memory_format=torch.channels_last_3d))
                features.append(output.features[:count].cpu())
                probabilities.append(output.logits.softmax(1)[:count].cpu())
        return Extraction(torch.cat(features), torch.cat(probabilities))

    def features(self, clips: Tensor) -> Tensor:
        """Penultimate activations after ReLU, float32 `[M, F]`; clips as in `extract`."""
        return self.extract(clips).features

    def probabilities(self, clips: Tensor) -> Tensor:
        """Class probabilities, float32 `[M, N]`; clips as in `extract`."""
        return self.extract(clips).probabilities

    @property
    def hash(self) -> str:
        """First 16 hex digits of SHA-256 over the weights, names and shapes included."""
        digest = hashlib.sha256()
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors) and card (JSON) into `folder`, the card last."""
        folder = Path(folder)
        weights = {k: v.cpu().contiguous() for k, v in self.network.state_dict().items()}
        write_file_atomically(folder / WEIGHTS_FILE, lambda path: save_file(weights, path))
        card = {
            "schema_version": SCHEMA_VERSION,
            "classes": list(self.classes),
            "clip_shape": list(self.clip_shape),
            "settings": dataclasses.asdict(self.settings),
            "report": self.report,
            "hash": self.hash,
        }
        write_json_atomically(folder / CARD_FILE, card)

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> "OwnClassifier":
        """Read what `save` wrote.

        Raises:
            UserError: files are missing, of another version, or damaged.
        """
        folder = Path(folder)
        try:
            card = read_json(folder / CARD_FILE)
            weights = load_file(folder / WEIGHTS_FILE)
        except Exception as error:
            # safetensors raises its own error class for damage; each cause has the same cure.
            raise UserError(
                f"no readable classifier in {folder} ({error}); delete the folder to train it again"
            ) from error
        if card.get("schema_version") != SCHEMA_VERSION:
            raise UserError(
                f"the classifier in {folder} has schema version {card.get('schema_version')}, this "
                f"vidgan reads {SCHEMA_VERSION}; delete the folder to train it again"
            )
        try:
            settings = from_dict(ClassifierSettings, card["settings"], "its card")
            c, t, h, w = card["clip_shape"]
            network = _build(settings, (c, t, h, w), card["classes"])
            network.load_state_dict(weights)
            judge = cls(network, card["classes"], (c, t, h, w), settings, dict(card["report"]))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"the card of the classifier in {folder} does not fit its weights ({error}); "
                "delete the folder to train it again"
            ) from error
        if judge.hash != card["hash"]:
            raise UserError(
                f"the weights in {folder} do not match their card (hash {judge.hash}, expected "
                f"{card['hash']}); delete the folder to train the classifier again"
            )
        _place(network, device)
        return judge


def train_own_classifier(
    clips: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    video_ids: Sequence[Hashable],
    *,
    seed: int = 0,
    settings: ClassifierSettings | None = None,
    device: torch.device | str = "cpu",
) -> OwnClassifier:
    """Train a judge on real clips and check it on videos it has not seen.

    Args:
        clips: uint8 `[M, C, T, H, W]`, real training clips.
        labels: int64 `[M]`; without meaning for a judge of changes.
        classes: N names; likewise.
        video_ids: M names of source videos; clips of one video stay on one side of the split.
        seed: of the split, the weights, the order and the augmentation.
        settings: None for the defaults.
        device: where to train, in bfloat16 autocast unless it would be emulated.

    Raises:
        UserError: there are fewer than two classes, or no video can be held out.
    """
    settings = settings or ClassifierSettings()
    if settings.task == "changes":
        classes, labels = PRETEXT_CLASSES, torch.zeros_like(labels)
    if len(classes) < 2:
        raise UserError(
            "a judge needs at least two classes; evaluate unlabelled data "
            "with --protocol own-ssl or stswd"
        )
    started = time.process_time()
    train_rows, _ = split_by_video(labels, video_ids, settings.validation_share, seed)
    c, t, h, w = clips.shape[1:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "judge weights"))
        network = _build(settings, (c, t, h, w), classes)
        _place(network, device)
        _fit(network, clips, labels, train_rows, seed, settings, torch.device(device))
    judge = OwnClassifier(network, classes, (c, t, h, w), settings, {})
    judge.report = check_judge(judge, clips, labels, video_ids, seed)
    judge.report["training_cpu_seconds"] = round(time.process_time() - started, 1)
    return judge


def check_judge(
    judge: OwnClassifier, clips: Tensor, labels: Tensor, video_ids: Sequence[Hashable], seed: int
) -> dict[str, Any]:
    """What a card tells of a judge's clips and answers; arguments as in `train_own_classifier`."""
    if judge.settings.task == "changes":
        labels = torch.zeros_like(labels)
    rows = split_by_video(labels, video_ids, judge.settings.validation_share, seed)
    checked, answers = clips[rows[1]], labels[rows[1]]
    if judge.settings.task == "changes":
        checked, answers = every_change(checked, seed)
    probabilities = judge.probabilities(checked)
    return {
        "seed": seed,
        "num_training_clips": rows[0].shape[0],
        "num_validation_clips": rows[1].shape[0],
        "num_videos": len(set(video_ids)),
        "accuracy": agreement(probabilities, answers, judge.classes),
        "chance": chance_accuracy(answers),
        "calibration_error": expected_calibration_error(probabilities, answers),
    }


def _build(
    settings: ClassifierSettings, shape: ClipShape, classes: Sequence[str]
) -> ClipClassifier:
    grid = AttributeGrid.of(classes)
    return ClipClassifier(
        shape,
        len(classes),
        width=settings.width,
        feature_dim=settings.feature_dim,
        dropout=settings.dropout,
        parts=(grid.object_of, grid.motion_of) if grid else (),
    )


def _place(network: ClipClassifier, device: torch.device | str) -> None:
    """Move to `device` with weights in the layout in which 3-D convolutions are fastest."""
    network.to(device)
    for parameter in network.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)


def _fit(
    network: ClipClassifier,
    clips: Tensor,
    labels: Tensor,
    rows: Tensor,
    seed: int,
    settings: ClassifierSettings,
    device: torch.device,
) -> None:
    """Train `network` on the clips in `rows`, in place."""
    num_steps = settings.clips_seen // settings.batch_size
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=num_steps, pct_start=0.15
    )
    rng = keyed_rng(seed, "judge augmentation")
    batches = shuffled_batches(rows, settings.batch_size, num_steps, (seed, "judge order"))
    network.train()
    for batch in batches:
        augmented = augment_keeping_motion(
            clips[batch],
            rng,
            colour=settings.colour,
            shift=settings.shift,
            mirror=settings.mirror,
        )
        answers = labels[batch]
        if settings.task == "changes":
            answers = random_changes(len(batch), rng)
            augmented = change_clips(augmented, answers, rng)
        # Emulated, bfloat16 would take half an hour instead of a minute.
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            shown = augmented.to(device, memory_format=torch.channels_last_3d)
            logits = network(shown).logits
        loss = F.cross_entropy(logits.float(), answers.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network.eval()


# ------------------------------------------------------------------------------------------------
# Judges kept on disk, keyed by everything that makes them


def clips_hash(clips: Tensor, labels: Tensor) -> str:
    """First 16 hex digits of SHA-256 over shape, bytes and labels of uint8 clips."""
    digest = hashlib.sha256(repr(tuple(clips.shape)).encode())
    for clip in clips:
        digest.update(clip.contiguous().numpy().tobytes())
    digest.update(labels.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def obtain_judge(
    real: RealClips,
    classes: Sequence[str],
    *,
    seed: int,
    settings: ClassifierSettings,
    cache: Path | None,
    device: torch.device | str = "cpu",
) -> OwnClassifier:
    """Load the judge for exactly these clips, settings and seed from `cache`, or train it.

    Args:
        real: training clips.
        classes, seed, settings, device: as in `train_own_classifier`.
        cache: folder that holds one folder a judge; None trains again and keeps nothing.

    Raises:
        UserError: the card of a kept judge does not tell what it does, which is measured again.
    """
    facts = {
        "clips": clips_hash(real.clips, real.labels),
        "classes": list(classes),
        "videos": [str(video) for video in real.video_ids],
        "settings": asdict(settings),
        "seed": seed,
        "schema": SCHEMA_VERSION,
        "torch": torch.__version__,
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    train = partial(
        train_own_classifier,
        real.clips,
        real.labels,
        classes,
        real.video_ids,
        seed=seed,
        settings=settings,
        device=device,
    )
    if cache is None:
        return train()
    folder = Path(cache) / f"judge-{key}"
    # A second process waits for the first one's judge, which costs less than training another.
    with one_at_a_time(folder.with_suffix(".lock")):
        if not folder.exists():
            judge = train()
            write_folder_atomically(folder, judge.save)
            return judge
    judge = OwnClassifier.load(folder, device)
    names = tuple(PRETEXT_CLASSES if settings.task == "changes" else classes)
    expected = {**asdict(settings), "classes": names, "seed": seed}
    found = {**asdict(judge.settings), "classes": judge.classes, "seed": judge.report.get("seed")}
    other = [f"{key}={found[key]}" for key in expected if found[key] != expected[key]]
    if not other:
        told, now = judge.report, check_judge(judge, real.clips, real.labels, real.video_ids, seed)
        other = [f"{key}={told.get(key)}" for key in now if not _agree(told.get(key), now[key])]
        judge.report = {**told, **now}
    if other:
        raise UserError(
            f"the card of the classifier in {folder} was edited, for it says {', '.join(other)}; "
            "delete the folder to train it again"
        )
    return judge


def _agree(told: Any, found: Any) -> bool:
    """Whether plain values are the same, but for a clip or two that other rounding turns over."""
    if isinstance(found, dict) and isinstance(told, dict):
        return all(_agree(told.get(key), value) for key, value in found.items())
    is_number = isinstance(found, float) and isinstance(told, float)
    return bool(abs(told - found) <= REPORT_TOLERANCE if is_number else told == found)
