"""The verb `evaluate`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vidgan.verbs.output import print_json

if TYPE_CHECKING:
    from vidgan.config import Config
    from vidgan.data.dataset import ClipDataset
    from vidgan.data.settings import DataConfig

Run = Annotated[str, tyro.conf.arg(metavar="RUN")]
Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="[KEY=VALUE ...]")]


def evaluate(
    run: Run,
    words: Words = (),
    /,
    *,
    protocol: str = "own-c3d",
    checkpoint: str = "last",
    seed: int = 0,
    judge_seed: int = 0,
    json: bool = False,
) -> None:
    """Score a generator, beside real clips, the noise floor and broken clips.

    The record goes to RUN/evals, the best checkpoint so far to RUN/best.json, and the page of the
    run shows the scores.

    Args:
        run: run folder; or a generator file, with data=FOLDER behind it.
        words: data=FOLDER and other settings of the data, if they differ from those of the run.
        protocol: own-c3d (judged by a classifier trained on the data) or stswd (weight-free).
        checkpoint: last, best or a step.
        seed: of latents, labels and choices of clips.
        judge_seed: of the judge; publish with another one than the one used while developing.
        json: print the whole record.
    """
    import torch

    from vidgan.evaluation import evaluate as score
    from vidgan.evaluation import format_record, save_record, update_best

    config, data = open_data(run, words, checkpoint)
    record = score(
        run,
        data,
        protocol,
        checkpoint=checkpoint,
        seed=seed,
        judge_seed=judge_seed,
        cache=cache_folder() / "judges",
        device="cuda" if torch.cuda.is_available() else "cpu",
        progress=say,
    )
    if config is not None:
        from vidgan.verbs.training import write_page_of

        saved = save_record(record, Path(run) / "evals")
        say(f"the record is {saved}")
        metric = config.best.metric
        if metric not in record["scores"]:
            say(f"best.metric={metric} is not among the scores, so no checkpoint was chosen")
        elif update_best(run, record, metric):
            say(f"step {record['generator']['step']} is the best checkpoint so far")
        write_page_of(Path(run))
    if json:
        print_json(record)
    else:
        print(format_record(record))


def open_data(
    source: str, words: tuple[str, ...], checkpoint: str
) -> tuple["Config | None", "ClipDataset"]:
    """The clips of a run, with its settings, or those named for a generator outside of its run."""
    from vidgan.data.build import cached_build
    from vidgan.data.dataset import ClipDataset
    from vidgan.data.shards import open_store
    from vidgan.training.loop import open_clips
    from vidgan.verbs.progress import progress_on_stderr

    config = config_of_run(source, words)
    if config is not None:
        return config, open_clips(config, say)
    settings = data_settings(source, words, checkpoint)
    with progress_on_stderr() as progress:
        store = open_store(cached_build(settings, progress=progress))
    return None, ClipDataset(store, settings, seed=0)


def config_of_run(source: str, words: tuple[str, ...]) -> "Config | None":
    """The settings of a run folder; None for a generator that stands outside of one."""
    from vidgan.config import load_config

    return load_config(source, words) if (Path(source) / "config.yaml").exists() else None


def data_settings(source: str, words: tuple[str, ...], checkpoint: str) -> "DataConfig":
    """How clips are cut to the size that a generator makes, for one outside of its run."""
    from vidgan.config_io import apply_overrides, from_dict
    from vidgan.data.settings import DataConfig
    from vidgan.sampling.storage import find_generator_file, read_card

    _, frames, resolution, _ = read_card(find_generator_file(source, checkpoint)).clip_shape
    settings: dict[str, Any] = {"frames": frames, "resolution": resolution}
    given = [word.removeprefix("data.") for word in words]
    given = [
        f"path={word.removeprefix('data=')}" if word.startswith("data=") else word for word in given
    ]
    return from_dict(DataConfig, apply_overrides(settings, given), "the settings of the data")


def cache_folder() -> Path:
    """Where judges and clip sets are kept: VIDGAN_CACHE, or ~/.cache/vidgan."""
    return Path(os.environ.get("VIDGAN_CACHE") or Path.home() / ".cache" / "vidgan")


def say(sentence: str) -> None:
    """One line on stderr."""
    print(sentence, file=sys.stderr, flush=True)
