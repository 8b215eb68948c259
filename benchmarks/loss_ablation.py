"""Which part of the sliced Wasserstein loss matters: one factor at a time, at equal cost.

Every setting trains the same unconditional Progressive Video GAN (8 frames of 16x16 px) on the
moving-shapes set for the same number of CPU seconds on one thread, with several seeds, and is
scored by the Frechet distance of the project's own classifier. The learning rates of the baselines
are varied exactly like SWGAN's.

    python benchmarks/loss_ablation.py --out runs/loss-ablation --seconds 300 --seeds 3 --workers 2
    python benchmarks/loss_ablation.py --out runs/loss-ablation --table

Runs that are finished are not repeated. The clock is the process' CPU time, so that several runs
may share a machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidgan.core.clip_ops import pool_clip, to_float, to_uint8
from vidgan.core.files import write_file_atomically, write_json_atomically
from vidgan.core.machine import describe_processor
from vidgan.core.randomness import keyed_rng
from vidgan.data.synthetic.motions import MotionSettings, motion_clip
from vidgan.extractors.judge import OwnClassifier, train_own_classifier
from vidgan.losses.recipes import LossConfig, make_loss
from vidgan.metrics.frechet import frechet_distance
from vidgan.models.base import ClipShape, LevelShape, Stage
from vidgan.models.pvgan import ProgressiveConfig
from vidgan.training.ema import copy_generator
from vidgan.training.settings import OptimizerConfig, PrecisionConfig, TrainingConfig
from vidgan.training.step import Batch, TrainingStep

SHAPE = ClipShape(3, 8, 16, 16)
MOTIONS = MotionSettings(
    size=64,
    frames=8,
    objects=("ring", "square", "triangle", "cross"),
    motions=("left", "right", "up", "down"),
    palette="vivid",
    tilt=0.3,
)
NUM_TRAIN, NUM_HELDOUT, NUM_SAMPLES = 2400, 640, 1280
CHANNELS, BATCH_SIZES = (96, 64, 16), (16, 8, 4)
# Share of the budget for: 4 px, fade to 8 px, 8 px, fade to 16 px, 16 px.
SHARES = ((0, False, 0.05), (1, True, 0.06), (1, False, 0.11), (2, True, 0.08), (2, False, 0.7))
JUDGE_SEED = 11


@dataclass(frozen=True)
class Setting:
    """One row of the table: a loss and what it changes of the recipe."""

    loss: str
    lr: float = 2e-3
    penalties: dict[str, dict[str, Any]] = field(default_factory=dict)
    adversarial: str | None = None


SETTINGS = {
    "SWGAN, base (analytic slope, input gradient 50, high on real, lr 2e-3)": Setting("swgan"),
    "WGAN-GP, lr 2e-3": Setting("wgan-gp"),
    "Non-saturating + lazy R1, lr 2e-3": Setting("ns-r1"),
    "SWGAN, no slope penalty": Setting("swgan", penalties={"slope": {"weight": 0.0}}),
    "SWGAN, slope per projection": Setting(
        "swgan", penalties={"slope": {"form": "per_projection"}}
    ),
    "SWGAN, slope as in the authors' code": Setting(
        "swgan", penalties={"slope": {"form": "reference"}}
    ),
    "SWGAN, input gradient 10": Setting("swgan", penalties={"input_gradient": {"weight": 10.0}}),
    "SWGAN, input gradient 2": Setting("swgan", penalties={"input_gradient": {"weight": 2.0}}),
    "SWGAN, critic high on fakes": Setting("swgan", adversarial="wasserstein-reversed"),
    "SWGAN, lr 1e-3": Setting("swgan", lr=1e-3),
    "WGAN-GP, lr 1e-3": Setting("wgan-gp", lr=1e-3),
    "Non-saturating + lazy R1, lr 1e-3": Setting("ns-r1", lr=1e-3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=300.0, help="CPU seconds of one run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1, help="runs side by side, one thread each")
    parser.add_argument("--table", action="store_true", help="print the table of finished runs")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(arguments.out))
    elif arguments.one:
        name, seed = json.loads(arguments.one)
        train_and_score(name, seed, arguments.seconds, arguments.out)
    else:
        prepare(arguments.out)
        run_all(arguments)


def run_all(arguments: argparse.Namespace) -> None:
    """Run what is missing, seed by seed, so that an early stop leaves whole seeds."""
    pending = [
        (name, seed)
        for seed in range(arguments.seeds)
        for name in SETTINGS
        if not record_path(arguments.out, name, seed).exists()
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    running: list[subprocess.Popen[bytes]] = []
    for name, seed in pending:
        while len(running) >= arguments.workers:
            running = [process for process in running if process.poll() is None]
            time.sleep(0.5)
        command = [sys.executable, __file__, "--out", str(arguments.out)]
        command += ["--seconds", str(arguments.seconds), "--one", json.dumps([name, seed])]
        running.append(subprocess.Popen(command, env=environment))
    for process in running:
        process.wait()


def prepare(out: Path) -> None:
    """Render the set and train the judge once."""
    if (out / "judge").exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    train, train_labels = render("train", NUM_TRAIN)
    heldout, heldout_labels = render("heldout", NUM_HELDOUT)
    data = {"train": train, "labels": train_labels, "heldout": heldout, "held": heldout_labels}
    write_file_atomically(out / "data.pt", lambda path: torch.save(data, path))
    judge = train_own_classifier(
        train, train_labels, MOTIONS.classes, range(NUM_TRAIN), seed=JUDGE_SEED
    )
    judge.save(out / "judge")


def render(split: str, count: int) -> tuple[Tensor, Tensor]:
    """Clips uint8 `[M, 3, 8, 16, 16]` and labels."""
    clips, labels = zip(*(motion_clip(MOTIONS, i, split) for i in range(count)), strict=True)
    return shrink(torch.stack(clips), LevelShape(8, 16)), torch.tensor(labels)


def shrink(clips: Tensor, level: LevelShape) -> Tensor:
    """Average uint8 clips down to a level's size."""
    factor = (
        clips.shape[2] // level.frames,
        clips.shape[3] // level.resolution,
        clips.shape[4] // level.resolution,
    )
    return to_uint8(pool_clip(to_float(clips), factor))


def train_and_score(name: str, seed: int, seconds: float, out: Path) -> None:
    """Train one setting with one seed for its CPU seconds and write its record."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = torch.load(out / "data.pt", weights_only=True)
    setting = SETTINGS[name]
    loss = LossConfig(
        name=setting.loss, penalties=setting.penalties, adversarial=setting.adversarial
    )
    model = ProgressiveConfig(channels=CHANNELS, **loss.requires)
    levels = model.levels(SHAPE)
    gan = model.build(SHAPE)
    optimizer = OptimizerConfig(lr=setting.lr)
    precision = PrecisionConfig(networks="bf16", penalty="bf16")
    settings = TrainingConfig(
        generator=optimizer, discriminator=optimizer, ema_beta=0.998, precision=precision
    )
    step = TrainingStep(
        gan, copy_generator(gan.generator), make_loss(loss), settings, seed, len(levels)
    )
    pyramid = [shrink(data["train"], level) for level in levels]

    steps_per_level = [0] * len(levels)
    order = keyed_rng("order", seed)
    start = time.process_time()
    while (progress := (time.process_time() - start) / seconds) < 1:
        level, alpha = position(progress)
        size = BATCH_SIZES[level]
        step.enter(Stage(level=level, alpha=alpha, batch_size=size, **levels[level]._asdict()))
        rows = torch.randint(NUM_TRAIN, (size,), generator=order)
        batch = Batch(pyramid[level][rows], None, size, 0)
        step.run(sum(steps_per_level), 0, lambda batch=batch: batch)
        steps_per_level[level] += 1

    generator = step.averaged
    weights = {k: v.contiguous() for k, v in generator.state_dict().items()}
    (out / "generators").mkdir(exist_ok=True)
    torch.save(weights, out / "generators" / f"{record_path(out, name, seed).stem}.pt")
    latents = torch.randn(NUM_SAMPLES, generator.latent_dim(), generator=keyed_rng("score"))
    with torch.no_grad():
        clips = torch.cat([to_uint8(generator(rows)) for rows in latents.split(32)])
    judge = OwnClassifier.load(out / "judge")
    features = judge.features(data["heldout"])
    record = {
        "setting": name,
        "seed": seed,
        "processor": describe_processor(),
        "cpu_seconds": seconds,
        "steps_per_level": steps_per_level,
        "frechet_distance": frechet_distance(features, judge.features(clips)),
        "floor": frechet_distance(judge.features(data["train"][:NUM_SAMPLES]), features),
        "num_real": len(features),
        "num_fake": NUM_SAMPLES,
    }
    write_json_atomically(record_path(out, name, seed), record)
    print(json.dumps(record), flush=True)


def position(progress: float) -> tuple[int, float]:
    """Level and alpha after a share of the budget."""
    end = 0.0
    for level, fades, share in SHARES:
        begin, end = end, end + share
        if progress < end:
            return level, (progress - begin) / share if fades else 1.0
    return SHARES[-1][0], 1.0


def record_path(out: Path, name: str, seed: int) -> Path:
    """Where a run's record lies."""
    word = "".join(c if c.isalnum() else "-" for c in name.lower())
    return out / "records" / f"{word}-seed{seed}.json"


def table(out: Path) -> str:
    """Markdown table of the finished runs."""
    records = [json.loads(path.read_text()) for path in sorted((out / "records").glob("*.json"))]
    lines = [
        "| setting | steps at 4, 8, 16 px | FD, each seed | median |",
        "| --- | --- | --- | --- |",
    ]
    for name in SETTINGS:
        found = sorted((r for r in records if r["setting"] == name), key=lambda r: r["seed"])
        if not found:
            continue
        scores = [record["frechet_distance"] for record in found]
        counts = ", ".join(str(n) for n in found[0]["steps_per_level"])
        each = ", ".join(f"{score:.1f}" for score in scores)
        lines.append(f"| {name} | {counts} | {each} | {statistics.median(scores):.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
