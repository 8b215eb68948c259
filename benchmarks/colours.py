"""Colours of generated moving shapes: what the eye sees first, and scores hardly notice.

python benchmarks/colours.py RUN [RUN ...]

For each run, and for the real clips of the first, over 512 clips and in grey levels:

* inside: deviation of colour inside an object from its median, the fifth of pixels that deviates
  most (a grey dot, edges) left out;
* objects, and of that within a class and between classes: deviation of an object's colour over
  clips, of clips of one class, and of the classes' means. Real colours do not depend on the class;
* backgrounds: deviation of the background's colour over clips;
* texture: deviation of the background inside a clip.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from vidgan.sampling.generate import sample_clips, sample_latents
from vidgan.sampling.storage import load_generator
from vidgan.training.loop import open_clips
from vidgan.training.presets import load_config

NUM_CLIPS = 512
OBJECT, BACKGROUND = 45.0, 25.0
"""Distances from the background's colour above which a pixel is an object's, and below which it is
surely none."""
LEAST_PIXELS = 8

Values = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+")
    runs = parser.parse_args().runs
    print("| clips | inside | objects | within / between | backgrounds | texture |")
    print("| --- | --- | --- | --- | --- | --- |")
    config = load_config(f"{runs[0]}/config.yaml", [])
    clips, labels = open_clips(config, lambda sentence: None).real_clips(NUM_CLIPS, seed=0)
    print(row("real", clips, labels))
    for run in runs:
        generator = load_generator(run, "last")
        labels = torch.arange(NUM_CLIPS) % generator.num_classes
        latents = sample_latents(generator, range(NUM_CLIPS))
        print(row(run, sample_clips(generator, latents, labels), labels), flush=True)


def row(name: str, clips: Tensor, labels: Tensor) -> str:
    """A line of the table for uint8 clips `[B, 3, T, H, W]` with labels `[B]`."""
    found = [measure(clip) for clip in clips.double().numpy()]
    inside, textures = (np.nanmean([each[index] for each in found]) for index in (0, 1))
    objects, backgrounds = (np.array([each[index] for each in found]) for index in (2, 3))
    classes = [objects[(labels == label).numpy()] for label in labels.unique()]
    within = np.mean([np.nanstd(rows, 0) for rows in classes])
    between = np.nanstd([np.nanmean(rows, 0) for rows in classes], 0).mean()
    return (
        f"| {name} | {inside:.1f} | {np.nanstd(objects, 0).mean():.1f} | {within:.1f} /"
        f" {between:.1f} | {backgrounds.std(0).mean():.1f} | {textures:.1f} |"
    )


def measure(clip: Values) -> tuple[float, float, Values, Values]:
    """Deviation inside the object, texture, the object's colour and the background's of a clip."""
    edges = [clip[:, :, 0], clip[:, :, -1], clip[:, :, :, 0], clip[:, :, :, -1]]
    background = np.median(np.concatenate(edges, axis=-1).reshape(3, -1), axis=1)
    distance = np.sqrt(((clip - background[:, None, None, None]) ** 2).sum(0))  # [T, H, W]
    core = np.stack(list(frames(distance > OBJECT, ndimage.binary_erosion)))
    near = np.stack(list(frames(distance > BACKGROUND, ndimage.binary_dilation, iterations=2)))

    inside, colour = np.nan, np.full(3, np.nan)
    if core.sum() > LEAST_PIXELS:
        pixels = clip[:, core]  # [3, N]
        colour = np.median(pixels, axis=1)
        square = np.sort(((pixels - colour[:, None]) ** 2).mean(0))
        inside = np.sqrt(square[: max(1, len(square) * 4 // 5)].mean())
    texture = np.nan if (~near).sum() <= LEAST_PIXELS else clip[:, ~near].std(1).mean()
    return float(inside), float(texture), colour, background


def frames(
    mask: npt.NDArray[np.bool_], change: object, **settings: int
) -> Iterator[npt.NDArray[np.bool_]]:
    """The mask of every frame after a morphological operation."""
    return (change(frame, **settings) for frame in mask)  # type: ignore[operator]


if __name__ == "__main__":
    main()
