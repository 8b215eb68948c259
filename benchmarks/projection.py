"""The tables of docs/project.md: what `vidgan project` finds for clips of several origins.

    python benchmarks/projection.py           # minutes; zoo:shapes
    python benchmarks/projection.py RUN --clips 20

Own clips are those of seeds 2000, 2001, ...; the search does not know their classes. Held-out ones
show what the generator was trained on and are rendered anew. The rest is foreign to it: digits,
shapes that turn, half of one own clip, noise, stripes and a chessboard.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from vidgan.comparing.demo import NUM_FRAMES, SCENES, VIDEO_SIZE
from vidgan.data.synthetic.motions import motion_settings, render_motions
from vidgan.models.base import Generator
from vidgan.sampling.generate import sample_clips, sample_latents
from vidgan.sampling.outputs import labels_of
from vidgan.sampling.projection import project_clip
from vidgan.sampling.storage import load_generator
from vidgan.sampling.zoo import PREFIX
from vidgan.sharing.project import cut_of, features_of, read_target

FIRST_SEED = 2000
RENDER_SEED = 90
FOREIGN = 4
"""Clips of each foreign origin."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", nargs="?", default=f"{PREFIX}shapes")
    parser.add_argument("--clips", type=int, default=20, help="own clips")
    given = parser.parse_args()
    generator = load_generator(given.source)
    features = features_of(given.source, "best", generator)
    print("| clip | found, dB | best random | mean clip | random | variance | verdict | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, clip in clips_of(generator, given.source, given.clips):
        found = project_clip(generator, clip, features=features)
        numbers = (found.psnr, found.psnr_best_random, found.psnr_mean_clip, found.psnr_random)
        cells = [f"{number:.1f}" for number in numbers]
        cells += [f"{found.explained:.0%}", found.verdict, f"{found.seconds:.0f}"]
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


def clips_of(generator: Generator, source: str, num_own: int) -> Iterator[tuple[str, Tensor]]:
    """Names and clips uint8 `[C, T, H, W]`."""
    seeds = range(FIRST_SEED, FIRST_SEED + num_own)
    own = sample_clips(generator, sample_latents(generator, seeds), labels_of(generator, seeds))
    yield from ((f"own, seed {seed}", clip) for seed, clip in zip(seeds, own, strict=True))
    shown = SCENES["shapes"]
    rendered = {
        "held-out": (shown.objects, shown.motions),
        "digit": (SCENES["digits"].objects, shown.motions),
        "turning": (shown.objects, ("rotate-left", "rotate-right")),
    }
    for name, (objects, motions) in rendered.items():
        for number, clip in enumerate(rendered_clips(generator, source, objects, motions), 1):
            yield f"{name} {number}", clip
    yield "own, half of it grey", half_grey(own[0])
    rng = torch.Generator().manual_seed(0)
    for number in range(1, FOREIGN + 1):
        noise = torch.randint(0, 256, own[0].shape, generator=rng)
        yield f"noise {number}", noise.to(torch.uint8)
    t, y, x = torch.meshgrid(*(torch.arange(n) for n in own.shape[2:]), indexing="ij")
    yield "stripes", (16 * x + 8 * t).remainder(256).to(torch.uint8).expand_as(own[0]).clone()
    yield "chessboard", ((x // 2 + y // 2 + t) % 2 * 255).to(torch.uint8).expand_as(own[0]).clone()


def rendered_clips(
    generator: Generator, source: str, objects: tuple[str, ...], motions: tuple[str, ...]
) -> list[Tensor]:
    """Clips that are rendered with a seed of their own, of different classes."""
    settings = motion_settings(
        objects=objects, motions=motions, size=VIDEO_SIZE, frames=NUM_FRAMES, seed=RENDER_SEED
    )
    with tempfile.TemporaryDirectory() as folder:
        render_motions(folder + "/videos", settings, videos=len(objects) * len(motions), heldout=0)
        files = sorted(Path(folder).rglob("*.mp4"))
        chosen = files[:: max(1, len(files) // FOREIGN)][:FOREIGN]
        cut = cut_of(source, generator)
        return [read_target(file, cut, generator) for file in chosen]


def half_grey(clip: Tensor) -> Tensor:
    """A clip whose right half shows nothing."""
    halved = clip.clone()
    halved[..., clip.shape[-1] // 2 :] = 128
    return halved


if __name__ == "__main__":
    main()
