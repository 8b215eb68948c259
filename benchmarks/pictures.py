"""The pictures of README, docs/recipe.md and docs/demo.md, from a generator with classes.

    python benchmarks/pictures.py runs/demo
    python benchmarks/pictures.py zoo:shapes-pocketgan --name pocketgan

Two clips of every class, seeds 0, 1, 2, ... in order, none chosen: as a moving grid, and one clip
of every class as rows of frames.
"""

import argparse
from pathlib import Path

import torch

from vidgan import load_generator
from vidgan.comparing.demo import class_samples
from vidgan.sampling.outputs import write_sample_grid
from vidgan.sampling.storage import card_of
from vidgan.video import tile_clips, write_webp

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
COLUMNS, SCALE, PAUSE_FRAMES = 8, 5, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("source", help="run folder of vidgan demo, or zoo:NAME")
    parser.add_argument("--name", default="demo", help="of the files in docs/images")
    given = parser.parse_args()
    generator = load_generator(given.source, "last")
    fps = card_of(generator).fps
    grid = tile_clips(class_samples(generator, 2).clips, COLUMNS, scale=SCALE)
    # The last frame rests, so that the eye sees where a motion begins again.
    rest = grid[:, -1:].repeat(1, PAUSE_FRAMES, 1, 1)
    write_webp(FOLDER / f"{given.name}.webp", torch.cat([grid, rest], dim=1), fps)
    write_sample_grid(FOLDER / f"{given.name}.png", class_samples(generator, 1), fps)


if __name__ == "__main__":
    main()
