"""The verb `demo`."""

from pathlib import Path
from typing import Annotated

import tyro

from vidgan.verbs.evaluation import cache_folder, say
from vidgan.verbs.output import print_json
from vidgan.verbs.progress import progress_on_stderr

Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="[KEY=VALUE ...]")]


def demo(words: Words = (), /, *, out: Path = Path("runs/demo"), json: bool = False) -> None:
    """Render videos, train on them, sample and score: a small video GAN in minutes.

    The same command goes on with a demo that was stopped.

    Args:
        words: settings that differ from those of the demo, as key=value, such as seed=1.
        out: folder of the run.
        json: print the record of the evaluation as JSON.
    """
    from vidgan.demo import run_demo
    from vidgan.evaluation import format_record

    with progress_on_stderr() as progress:
        record = run_demo(out, words, cache_folder() / "judges", say, progress)
    page = out / "index.html"
    if json:
        print_json({"page": str(page), "record": record})
    else:
        print(format_record(record))
        print(f"\nopen {page}")
