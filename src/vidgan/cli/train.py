"""Verbs about runs: `train` and `report`."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import tyro

from vidgan.cli.common import print_lines, write_page_of
from vidgan.errors import UserError, printable

Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="[PRESET | FILE | RUN] [KEY=VALUE ...]")]
Run = Annotated[Path, tyro.conf.arg(metavar="RUN")]


def train(words: Words = (), /, *, dry_run: bool = False) -> None:
    """Train a model, or go on with a run that was stopped.

    Without a preset one is chosen that suits this machine. The same command continues the same
    run. Several processes: torchrun --nproc-per-node N -m vidgan train ...

    Args:
        words: a preset, a settings file or a run folder, then settings as key=value; data=FOLDER
            names the videos, run=FOLDER where to write. --dry-run prints all settings there are.
        dry_run: print the settings that would be used, and train nothing.
    """
    from vidgan.core.settings import dump_yaml
    from vidgan.training.presets import load_config

    source, overrides = split_words(words)
    config = load_config(source, overrides)
    if dry_run:
        from vidgan.training.run_config import config_to_dict

        print_lines(dump_yaml(config_to_dict(config)), end="")
        return

    from vidgan.training.loop import train as train_run

    is_first = os.environ.get("RANK", "0") == "0"
    if is_first and source is None:
        print(printable(f"settings of the preset {config.preset}"), file=sys.stderr)
    run = train_run(config)
    if is_first:
        print_lines(run)
        print(printable(f"the page: {run / 'index.html'}"), file=sys.stderr)
        print(printable(f"next: vidgan evaluate {shlex.quote(str(run))}"), file=sys.stderr)


def report(run: Run, /) -> None:
    """Write the page of a run anew, with what was sampled and evaluated since.

    Args:
        run: run folder.
    """
    write_page_of(run)
    print_lines(run / "index.html")


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
