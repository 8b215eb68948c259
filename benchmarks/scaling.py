"""The thesis' schedule on many cards, by arithmetic: measured steps, gradients, links, stragglers.

    python benchmarks/scaling.py            the tables of docs/scaling.md

Every card takes the thesis' batch of its level, so n cards show n times the clips in a step. A step
lasts as long as that of the slowest card; then the gradients meet, by one all-reduce for the
discriminator and one for the generator, and a number that tells of stop signals. A card's own time
is what an H200 measured for steps without CUDA graphs, which several processes do without. All
else is a model.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from vidgan.core.randomness import keyed_rng
from vidgan.training.plan import make_plan
from vidgan.training.presets import load_config

PRESET = "paper/pvgan-wgangp-256x32"
RESULTS = Path(__file__).parent.parent / "docs" / "results" / "gpu-h200" / "results.json"
CARDS = (1, 2, 4, 8, 16, 64)
CARDS_A_HOST = 8
STEPS = 4000
"""Simulated steps of a level."""
FLOAT32_BYTES = 4
ATTAINED = 0.8
"""Share of its data sheet that a link is taken to reach."""


@dataclass(frozen=True)
class Link:
    """Bytes a second in each direction by the data sheet, and the seconds of a message."""

    title: str
    bytes_per_s: float
    latency_s: float


NVLINK = Link("NVLink 4", 450e9, 5e-6)
NETWORKS = (
    Link("InfiniBand of 400 Gb/s a card", 50e9, 1e-5),
    Link("Ethernet of 25 Gb/s a host", 3.1e9, 5e-5),
)


@dataclass(frozen=True)
class Scene:
    """How cards differ: a log-normal factor of every step, and the factor of one slow card."""

    title: str
    spread: float = 0.0
    slowest: float = 1.0


EVEN = Scene("even cards")
SCENES = (
    EVEN,
    Scene("spread of 5 %", spread=0.05),
    Scene("spread of 20 %", spread=0.2),
    Scene("one card takes 1.3 times as long", slowest=1.3),
)


@dataclass(frozen=True)
class Level:
    """A level of the schedule: seconds of a step on one card, bytes of each network's gradient."""

    size: str
    batch: int
    clips: int
    seconds: float
    gradients: tuple[int, ...]


def read_levels() -> list[Level]:
    """The levels of the thesis' schedule, with the steps that a card measured in bfloat16."""
    config = load_config(PRESET, ["data=none", "run=none"])
    rows = json.loads(RESULTS.read_text())["parts"]["levels"]["rows"]
    wanted = (PRESET, "eager", "bf16")
    measured = {
        row["level"]: row["ms"] / 1000
        for row in rows
        if (row["what"], row["mode"], row["precision"]) == wanted
    }
    return [
        Level(
            size=level.size,
            batch=level.batch_size,
            clips=level.clips,
            seconds=measured[level.level],
            gradients=tuple(FLOAT32_BYTES * count for count in level.parameters.values()),
        )
        for level in make_plan(config, "h200").levels
    ]


def all_reduce_seconds(num_bytes: int, cards: int, network: Link) -> float:
    """A ring: 2 (n - 1) messages of an n-th of the bytes, over its slowest link."""
    link = NVLINK if cards <= CARDS_A_HOST else network
    messages = 2 * (cards - 1)
    return messages * (num_bytes / cards / (ATTAINED * link.bytes_per_s) + link.latency_s)


def slowest_card(cards: int, scene: Scene) -> float:
    """Mean factor by which the slowest of the cards lasts longer than an even one."""
    normal = torch.randn(STEPS, cards, generator=keyed_rng("stragglers", cards))
    # Log-normal factors of mean 1.
    factors = torch.exp(scene.spread * normal - scene.spread**2 / 2)
    factors[:, 0] *= scene.slowest
    return float(factors.max(dim=1).values.mean())


def step_seconds(level: Level, cards: int, network: Link, scene: Scene) -> float:
    """A step of so many cards."""
    computing = level.seconds * slowest_card(cards, scene)
    if cards == 1:
        return computing
    sizes = (*level.gradients, FLOAT32_BYTES)
    return computing + sum(all_reduce_seconds(size, cards, network) for size in sizes)


def hours(levels: list[Level], cards: int, network: Link, scene: Scene) -> float:
    """The whole schedule."""
    steps = [level.clips / (level.batch * cards) for level in levels]
    times = [step_seconds(level, cards, network, scene) for level in levels]
    return sum(n * t for n, t in zip(steps, times, strict=True)) / 3600


def print_table(head: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")
    print()


def main() -> None:
    """Print the tables."""
    argparse.ArgumentParser(description=__doc__.split("\n", 1)[0]).parse_args()
    levels = read_levels()
    fast = NETWORKS[0]
    print_table(
        ["level", "batch of a card", "ms of a card", "gradients MB", "8 cards ms", "64 cards ms"],
        [
            [
                level.size,
                str(level.batch),
                f"{1e3 * level.seconds:.1f}",
                ", ".join(f"{size / 1e6:.1f}" for size in level.gradients),
                *(f"{1e3 * step_seconds(level, cards, fast, EVEN):.1f}" for cards in (8, 64)),
            ]
            for level in levels
        ],
    )
    for network in NETWORKS:
        print(f"Beyond a host of {CARDS_A_HOST}: {network.title}\n")
        alone = {scene: hours(levels, 1, network, Scene("", scene.spread)) for scene in SCENES}
        print_table(
            ["cards", *(scene.title for scene in SCENES)],
            [
                [
                    str(cards),
                    *(
                        f"{(spent := hours(levels, cards, network, scene)):.1f} h,"
                        f" {alone[scene] / cards / spent:.0%}"
                        for scene in SCENES
                    ),
                ]
                for cards in CARDS
            ],
        )


if __name__ == "__main__":
    main()
