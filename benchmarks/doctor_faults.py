"""What the training doctor says of trainings that are broken on purpose, and of healthy ones.

    python benchmarks/doctor_faults.py                     # every fault, and ten healthy seeds
    python benchmarks/doctor_faults.py --only frozen,NaN   # some of them
    python benchmarks/doctor_faults.py --model pvgan --clips 4800

Every row is a training on rendered shapes (8 frames of 16x16 px, 16 classes) with the fault in it
from its first step; both networks learn under it. It fails if a fault is not named or a healthy run
is stopped.
"""

import argparse
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vidgan.comparing.demo import SCENES
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.errors import UnhealthyTrainingError
from vidgan.models.base import Generator
from vidgan.models.pocketgan import PocketGenerator
from vidgan.models.pvgan import ProgressiveGenerator
from vidgan.training.logs import LOG_FILE, read_log
from vidgan.training.loop import train
from vidgan.training.presets import load_config

Change = Callable[[Tensor], Tensor]

MODELS: dict[str, tuple[type[Generator], str]] = {
    "pocketgan": (PocketGenerator, "cpu/pocketgan-motions-16x8"),
    "pvgan": (ProgressiveGenerator, "cpu/pvgan-motions-16x8"),
}
NUM_VIDEOS = 352
COPIES = 3
"""How often every video lies in the set with duplicated data."""
HEALTHY_SEEDS = range(10)


@dataclass(frozen=True)
class Fault:
    """One way to break a training, and what has to be named.

    Attributes:
        expected: name of the doctor's rule, or words of the error that ends the run.
        clip: what happens to generated clips `[B, C, T, H, W]`.
        latent: what happens to latents `[B, Z]`.
        settings: `key=value` words.
        copies: whether the data hold every clip several times.
    """

    expected: str
    clip: Change | None = None
    latent: Change | None = None
    settings: tuple[str, ...] = ()
    copies: bool = False


def alike_backgrounds(clips: Tensor) -> Tensor:
    means = clips.mean(dim=(2, 3, 4), keepdim=True)
    return clips - means + means.mean(dim=0)


def alternating(clips: Tensor) -> Tensor:
    # Inverted in turn alone, a generator that learns fast has undone it before the first look.
    signs = 1 - 2 * (torch.arange(clips.shape[2]) % 2)
    return clips.abs() * signs[:, None, None]


FAULTS = {
    "learning rates x100": Fault(
        "learning rate",
        settings=("training.generator.lr=0.2", "training.discriminator.lr=0.2"),
    ),
    "dead generator": Fault("dead generator", clip=lambda clips: 0 * clips),
    "nearly one clip": Fault("collapse", clip=lambda clips: 0.02 * clips),
    "frozen frames": Fault("frozen", clip=lambda clips: clips[:, :, :1].expand_as(clips)),
    "flicker": Fault("flicker", clip=alternating),
    "backgrounds all alike": Fault("backgrounds alike", clip=alike_backgrounds),
    "label leak: the label decides all": Fault(
        "latent ignored", latent=lambda latent: torch.ones_like(latent)
    ),
    "duplicated data": Fault("duplicated data", copies=True),
    "NaN": Fault("not finite", clip=lambda clips: clips * math.nan),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=MODELS, default="pocketgan")
    parser.add_argument("--clips", type=int, default=2400, help="that every training is shown")
    parser.add_argument("--only", help="names of faults, or healthy, with commas between")
    given = parser.parse_args()
    wanted = given.only.split(",") if given.only else [*FAULTS, "healthy"]
    torch.set_num_threads(1)
    is_good = True
    print("| training | seed | named by | after | last verdict | CPU s |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        render(folder)
        for fault in (name for name in FAULTS if any(part in name for part in wanted)):
            row, is_named, _ = trained(folder, given, fault, FAULTS[fault], seed=0)
            is_good &= is_named
            print(row, flush=True)
        for seed in HEALTHY_SEEDS if "healthy" in wanted else ():
            row, _, verdict = trained(folder, given, "healthy", Fault("nothing"), seed)
            is_good &= verdict != "stop"
            print(row, flush=True)
    sys.exit(not is_good)


def render(folder: Path) -> None:
    """Videos, and a set in which every one of a class lies several times."""
    scene = SCENES["shapes"]
    settings = motion_settings(scene.objects, scene.motions, frames=8)
    render_motions(folder / "videos", settings, videos=NUM_VIDEOS, heldout=1 / 11)
    shutil.copytree(folder / "videos", folder / "copies")
    for video in sorted((folder / "copies").rglob("*.mp4")):
        for number in range(1, COPIES):
            shutil.copy(video, video.with_stem(f"{video.stem}-{number}"))


def trained(
    folder: Path, given: argparse.Namespace, name: str, fault: Fault, seed: int
) -> tuple[str, bool, str]:
    """A row of the table, whether the fault was named, and the last verdict."""
    network, preset = MODELS[given.model]
    run, data = folder / "run", folder / ("copies" if fault.copies else "videos")
    words = [f"data={data}", f"run={run}", f"seed={seed}"]
    words += [f"training.total_clips={given.clips}", "training.log_every=20"]
    words += ["training.sample_every=0", "training.checkpoint_every=100", *fault.settings]
    config = load_config(preset, words)
    start, error = time.process_time(), ""
    with broken(network, fault):
        try:
            train(config)
        except UnhealthyTrainingError as told:
            error = str(told)
    seconds = time.process_time() - start
    looks = [line for line in read_log(run / LOG_FILE) if "doctor" in line]
    shutil.rmtree(run)
    named: dict[str, int] = {}
    for line in looks:
        for finding in line["doctor"].get("findings", ()):
            named.setdefault(finding["name"], line["step"])
    if error:
        named[error.partition(";")[0]] = looks[-1]["step"] if looks else 0
    verdict = "stop" if error else looks[-1]["doctor"]["verdict"]
    told = ", ".join(named) or "-"
    when = ", ".join(str(step) for step in named.values()) or "-"
    is_named = any(fault.expected in finding for finding in named)
    missed = "" if is_named or name == "healthy" else f" (missed: {fault.expected})"
    row = f"| {name} | {seed} | {told}{missed} | {when} | {verdict} | {seconds:.0f} |"
    return row, is_named, verdict


@contextmanager
def broken(network: type[Generator], fault: Fault) -> Iterator[None]:
    """The class of a generator with a fault in it."""
    make = network.parts

    def parts(self: Generator, latent: Tensor, *rest: object, **more: object) -> dict[str, Tensor]:
        if fault.latent is not None:
            latent = fault.latent(latent)
        made = make(self, latent, *rest, **more)  # type: ignore[arg-type]
        return made if fault.clip is None else made | {"clip": fault.clip(made["clip"])}

    network.parts = parts  # type: ignore[method-assign]
    try:
        yield
    finally:
        network.parts = make  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
