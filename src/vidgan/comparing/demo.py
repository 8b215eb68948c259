"""What `vidgan demo` runs: from rendering data to a page with clips, scores and a latent walk.

Every step is the one a user takes with their own videos: render files, train on the folder, sample,
interpolate, evaluate. An interrupted demo continues where it stopped.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from vidgan.core.distributed import join_processes
from vidgan.core.files import check_place
from vidgan.core.progress import Notify, Progress
from vidgan.data.synthetic.motions import DIGITS, motion_settings, render_motions
from vidgan.errors import UserError
from vidgan.evaluation.generators import EvaluationOptions, evaluate, save_record, update_best
from vidgan.evaluation.record_types import Record
from vidgan.models.base import Generator
from vidgan.sampling.generate import sample_clips, sample_latents
from vidgan.sampling.outputs import (
    Samples,
    interpolate_seeds,
    write_interpolation,
    write_sample_grid,
)
from vidgan.sampling.storage import card_of, load_generator
from vidgan.training.loop import check_before, open_clips, train
from vidgan.training.page import write_page
from vidgan.training.presets import Config, load_config


@dataclass(frozen=True)
class Scene:
    """What a demo renders and the preset that learns it."""

    preset: str
    objects: tuple[str, ...]
    num_videos: int
    motions: tuple[str, ...] = ("left", "right", "up", "down")


SCENES = {
    "shapes": Scene("cpu/pocketgan-motions-16x8", ("ring", "square", "triangle", "cross"), 2640),
    "digits": Scene("cpu/pvgan-digits-16x8", DIGITS, 6600),
}
HELDOUT_FRACTION = 1 / 11
VIDEO_SIZE, NUM_FRAMES = 64, 8
JUDGE_SEED = 101
"""The preset was tuned with another judge (seed 11), so it is not tuned for this one."""


def run_demo(
    out: str | Path,
    overrides: Sequence[str] = (),
    cache: str | Path | None = None,
    notify: Notify = print,
    progress: Progress | None = None,
    scene: str = "shapes",
    num_videos: int = 0,
) -> Record:
    """Render a data set, train on it, sample, interpolate and evaluate.

    Args:
        out: folder of the run; the rendered videos go to `<out>-videos` beside it.
        overrides: `key=value` settings that differ from the demo's preset.
        cache: where judges are kept; None retrains the judge.
        notify: called with a sentence at every stage.
        progress: called with (done, total, what) while rendering.
        scene: name from `SCENES`.
        num_videos: videos to render, one in eleven held out; 0 takes the number of the scene.

    Returns:
        The record of the evaluation; the page is `<out>/index.html`.

    Raises:
        UserError: no such scene, settings that do not fit, or `out` holds something else.
    """
    if scene not in SCENES:
        raise UserError(f"there is no scene {scene!r} for the demo: use {', '.join(SCENES)}")
    shown = SCENES[scene]
    num_videos = num_videos or shown.num_videos
    out = Path(out)
    videos = out.with_name(f"{out.name}-videos")
    config = _settings(shown.preset, videos, out, overrides)
    start = time.monotonic()

    def stage(sentence: str) -> None:
        notify(f"[{time.monotonic() - start:4.0f} s] {sentence}")

    # The judge computes as training does: the same scores on any number of cores.
    with _threads(config.training.threads):
        stage(f"1/5 rendering {num_videos} labelled videos into {videos}")
        render_motions(
            videos,
            motion_settings(
                objects=shown.objects, motions=shown.motions, size=VIDEO_SIZE, frames=NUM_FRAMES
            ),
            videos=num_videos,
            heldout=HELDOUT_FRACTION,
            progress=progress,
        )

        stage(f"2/5 training {config.preset} ({config.loss.name}); watch {out / 'index.html'}")
        train(config)

        stage("3/5 sampling every class, and walking through the latent space")
        generator = load_generator(out, "last")
        card = card_of(generator)
        video, image = class_samples(generator, 2), class_samples(generator, 1)
        columns = len(video.seeds) // len(shown.objects)
        write_sample_grid(out / "samples" / "classes.mp4", video, card.fps, columns)
        write_sample_grid(out / "samples" / "classes.png", image, card.fps)
        walk = interpolate_seeds(generator, 0, 1, 9, "slerp", card.class_names[0])
        write_interpolation(out / "interpolation.mp4", out / "interpolation.png", walk, card.fps)

        stage("4/5 evaluating with a judge trained on the rendered videos")
        data = open_clips(config, stage)
        options = EvaluationOptions(checkpoint="last", judge_seed=JUDGE_SEED, cache=cache)
        record = evaluate(out, data, options=options)
        save_record(record, out / "evals")
        update_best(out, record, config.best.metric)

        stage("5/5 writing the page")
        write_page(out, "done")
        return record


def _settings(preset: str, videos: Path, out: Path, overrides: Sequence[str]) -> Config:
    """The settings of the demo's run; what does not fit is refused before anything is rendered."""
    config = load_config(preset, [f"data={videos}", f"run={out}", *overrides])
    if config.run != str(out) or config.data.path != str(videos):
        raise UserError(
            "the demo renders its own videos and names its own run: leave run= and data= out, and "
            "set the folder with --out; 'vidgan train' takes other clips"
        )
    with join_processes(config.training.device):
        check_before(config)
    check_place(videos)
    return config


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set the number of threads; 0 leaves it unchanged."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def class_samples(generator: Generator, per_class: int) -> Samples:
    """Samples of every class in turn, `per_class` of each."""
    num_classes = card_of(generator).num_classes
    seeds = range(num_classes * per_class)
    labels = torch.arange(num_classes).repeat_interleave(per_class)
    clips = sample_clips(generator, sample_latents(generator, seeds), labels)
    return Samples(clips, tuple(seeds), labels)
