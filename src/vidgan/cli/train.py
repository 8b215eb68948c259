"""Verbs about runs: `plan`, `train` and `report`."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vidgan.cli.common import (
    Words,
    print_json,
    print_lines,
    print_made,
    print_table,
    progress_on_stderr,
    refuse_unknown_metric,
    write_page_of,
)
from vidgan.core.progress import say
from vidgan.errors import UserError, printable

if TYPE_CHECKING:
    from vidgan.training.plan import Plan

TrainWords = Annotated[
    tuple[str, ...], tyro.conf.arg(metavar="[PRESET | FILE | RUN] [KEY=VALUE ...]")
]
Run = Annotated[Path, tyro.conf.arg(metavar="RUN")]

LEAST_MINUTES = 1


def train(
    words: TrainWords = (),
    /,
    *,
    dry_run: bool = False,
    profile: int = 0,
    json: bool = False,
) -> None:
    """Train a model, or continue a run that was stopped.

    Without a preset one is chosen that suits this machine. The same command continues the same
    run. Several processes: torchrun --nproc-per-node N -m vidgan train ...

    Args:
        words: a preset, a settings file or a run folder, then settings as key=value; data=FOLDER
            names the videos, run=FOLDER where to write. --dry-run prints all settings there are.
        dry_run: print the settings that would be used, and train nothing.
        profile: steps whose operators are timed, for profile/table.md and profile/trace.json of the
            run.
        json: print a JSON document.
    """
    from vidgan.core.settings import dump_yaml
    from vidgan.training.presets import load_config

    source, overrides = split_words(words)
    if profile:
        if twins := [word for word in overrides if word.startswith("training.profile_steps=")]:
            raise UserError(
                f"--profile {profile} and {twins[0]} set the same number: give one of them"
            )
        overrides.append(f"training.profile_steps={profile}")
    config = load_config(source, overrides)
    refuse_short_times(overrides, config.training.minutes)
    refuse_unknown_metric(overrides)
    if dry_run:
        from vidgan.training.planner import check_settings
        from vidgan.training.presets import config_to_dict

        check_settings(config)
        settings = config_to_dict(config)
        if json:
            print_json(settings)
        else:
            print_lines(dump_yaml(settings), end="")
        return

    from vidgan.training.loop import train as train_run

    is_first = os.environ.get("RANK", "0") == "0"
    if is_first and source is None:
        print(printable(f"settings of the preset {config.preset}"), file=sys.stderr)
    run = train_run(config)
    if is_first:
        page = run / "index.html"
        print_made(run, json, page=str(page))
        print(printable(f"the page: {page}"), file=sys.stderr)


def plan(
    words: TrainWords = (),
    /,
    *,
    device: str = "auto",
    classes: int = 0,
    clips: int | None = None,
    json: bool = False,
) -> None:
    """Say what a training needs and takes: memory and time of each level, disk, shared memory.

    No clips are needed. On the device at hand about 20 steps of noise are measured; for another
    card a table is used, whose assumptions are printed. Exit code 2 if a level does not fit.

    Args:
        words: as of vidgan train: a preset, a settings file or a run folder, then key=value.
        device: auto, cpu or cuda to measure here; h200, h100, a100 or rtx4090 by the table.
        classes: labels of the data.
        clips: of the data, for the room that they take.
        json: print a JSON document.
    """
    from vidgan.sampling.storage import read_pointer
    from vidgan.training.budget import keep_schedule
    from vidgan.training.plan import make_plan
    from vidgan.training.planner import clip_shape, clips_after, plan_schedule
    from vidgan.training.presets import CONFIG_FILE, load_config

    source, overrides = split_words(words)
    config = load_config(source, overrides)
    refuse_short_times(overrides, config.training.minutes)
    run = None if source is None or not (Path(source) / CONFIG_FILE).is_file() else Path(source)
    if run is not None:
        config = keep_schedule(config)
        config = replace(config, training=replace(config.training, minutes=None))
    found = make_plan(config, device, classes, clips, say)
    if json:
        print_json(found.to_dict())
    else:
        print_plan(found)
        if run is not None:
            step = read_pointer(run, "last") or 0
            schedule = plan_schedule(config, clip_shape(config))
            # The last batch may go beyond the end.
            shown = min(schedule.total, clips_after(step, schedule, config.training))
            print_lines(
                f"{run} has shown {shown:,} of {schedule.total:,} clips, and continues there"
            )
    if found.problems:
        raise UserError("; ".join(found.problems))


def print_plan(plan: "Plan") -> None:
    """A table of the levels, and what holds for all of them."""
    from vidgan.training.device_rates import GIB
    from vidgan.training.logs import in_time

    print_lines(f"{plan.device}, {plan.memory / GIB:.1f} GiB: {plan.source}\n")
    rows = [
        {
            "level": level.size,
            "batch": level.batch_size,
            "M param.": round(sum(level.parameters.values()) / 1e6, 2),
            "GMAC/step": round(level.gmac, 2),
            "saved D, G MiB": f"{level.saved_discriminator / 2**20:.0f}, "
            f"{level.saved_generator / 2**20:.0f}",
            "D GiB": round(level.peak_discriminator / GIB, 2),
            "penalty GiB": round(level.peak_penalty / GIB, 2) if level.peak_penalty else None,
            "G GiB": round(level.peak_generator / GIB, 2),
            "fits": level.largest_batch,
            "accumulate": level.accumulate or "none",
            "ms/step": round(1e3 * level.step_seconds, 1),
            "how": level.how,
            "clips": level.clips,
            "time": in_time(level.seconds),
        }
        for level in plan.levels
    ]
    print_table(rows, list(rows[0]))
    print_lines(
        f"\nin all {in_time(plan.seconds)} with samples and checkpoints, once it has started and "
        f"checked its gradients; first sample film after {in_time(plan.first_film_s)}, at full "
        f"size after {in_time(plan.first_full_film_s)}"
    )
    packed = (
        "give --clips N for the room of the packed clips"
        if plan.clips_bytes is None
        else f"packed clips at most {plan.clips_bytes / GIB:.2f} GiB (before compression)"
    )
    print_lines(
        f"disk: checkpoints {plan.checkpoint_bytes / 2**20:.0f} MiB, {packed}; "
        f"shared memory {plan.shared_memory / 2**20:.0f} MiB"
    )


def report(run: Run, /, *, json: bool = False) -> None:
    """Rewrite the page of a run with what was sampled and evaluated since.

    Args:
        run: run folder.
        json: print a JSON document.
    """
    write_page_of(run)
    print_made(run / "index.html", json)


def refuse_short_times(words: Sequence[str], minutes: float | None) -> None:
    """Refuse a time that was asked for and could not be kept.

    Raises:
        UserError: it is below `LEAST_MINUTES`.
    """
    asked = any(re.match(r"(training\.)?minutes=|hours=", word) for word in words)
    if asked and minutes is not None and minutes < LEAST_MINUTES:
        raise UserError(
            f"{minutes:g} minutes cannot be kept: checks, samples and checkpoints, which the time "
            f"of a run includes, may take longer; give minutes={LEAST_MINUTES} or more, or a "
            "length with training.total_clips=N"
        )


def split_words(words: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """Split words into what names the settings, if anything does, and `key=value` words.

    Raises:
        UserError: two words that are no `key=value`.
    """
    named = [word for word in words if "=" not in word]
    if len(named) > 1:
        raise UserError(
            f"{' and '.join(map(repr, named))} cannot both name the settings; give one preset, "
            f"settings file or run folder, and the rest as key=value"
        )
    return (named[0] if named else None), [word for word in words if "=" in word]


# ------------------------------------------------------------------------------------------------
# The verb `demo`


def demo(
    words: Words = (),
    /,
    *,
    scene: str = "shapes",
    out: Path | None = None,
    fresh: bool = False,
    json: bool = False,
) -> None:
    """Render a small labelled set, train on it, sample, evaluate, and write a page.

    Seven minutes to a quarter of an hour on one core for shapes, longer for digits. An
    interrupted demo continues where it stopped.

    Args:
        words: settings that differ from the demo's preset.
        scene: shapes, or digits: handwritten ones in forty classes.
        out: folder of the run; runs/demo, or runs/demo-digits for digits.
        fresh: retrain the judge even if one for this data is kept.
        json: print the whole record of the evaluation.
    """
    from vidgan.comparing.demo import run_demo
    from vidgan.core.files import cache_folder
    from vidgan.evaluation.generators import format_record

    out = out or Path("runs") / ("demo" if scene == "shapes" else f"demo-{scene}")
    judges = None if fresh else cache_folder() / "judges"
    with progress_on_stderr() as progress:
        record = run_demo(out, words, judges, say, progress, scene)
    if json:
        print_json(record.without_clips().to_dict())
    else:
        print_lines(format_record(record))
        print_lines(f"\nopen {out / 'index.html'}")
