"""The verb `evaluate`."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from vidgan.cli.common import (
    Flags,
    Run,
    Words,
    choose_best,
    open_data,
    print_json,
    print_lines,
    tell_edited_settings,
)
from vidgan.core.files import cache_folder, check_place
from vidgan.core.progress import ignore, say
from vidgan.errors import UserError

if TYPE_CHECKING:
    from vidgan.evaluation.protocols import Protocol
    from vidgan.report.comparison import Comparison


@dataclass(frozen=True, kw_only=True)
class EvaluateFlags:
    """Flags of `evaluate`."""

    protocol: str | None = None
    """own-c3d (judged by a classifier trained on the data, the default for data with
    classes), own-ssl (the same without classes), stswd (weight-free) or one of --list."""
    checkpoint: str = "last"
    """last, best or a step."""
    seed: int = 0
    """of latents, labels and choices of clips."""
    verify: bool = False
    """RUN is a record: compute it again from its inputs and name whatever differs."""
    watch: bool = False
    """follow RUN while it trains in another process: evaluate every new checkpoint once,
    with one core in four and low priority, until the run is finished."""
    list: bool = False
    """name every protocol, with a line each."""
    show: str = ""
    """print this protocol in full."""
    json: bool = False
    """print the whole record as JSON; with --watch one a line."""


def evaluate(
    run: Run = "",
    words: Words = (),
    /,
    *,
    flags: Flags[EvaluateFlags],
) -> None:
    """Score a generator or a folder of clips, beside real clips, the noise floor and broken clips.

    The record goes to RUN/evals, the best checkpoint so far to RUN/best.json, and the page of the
    run shows the scores.

    Args:
        run: run folder; or a generator file, or a folder of clips that any program generated, with
            data=FOLDER after it.
        words: data=FOLDER and other settings of the data, if they differ from those of the run;
            judge_seed=1 for another judge: publish with another one than you develop with;
            protocol.num_clips=256 and the like change a protocol, which makes it a custom one.
    """
    if flags.list or flags.show:
        # Behind --show there is no run, so the first word is one of the protocol's.
        if flags.list:
            print_protocols(flags.json)
        else:
            print_protocol(flags.show, (run, *words), flags.json)
        return
    if not run:
        raise UserError("name a run folder, a generator file or a folder of clips to evaluate")
    if flags.verify:
        verify_record(run, words, flags.json)
        return
    words, judge_seed = take_judge_seed(words)
    words, choose = take_protocol(flags.protocol, words)
    if flags.watch:
        from vidgan.cli.watch import watch_run

        watch_run(
            run, words, choose=choose, seed=flags.seed, judge_seed=judge_seed, json_lines=flags.json
        )
        return

    from vidgan.core.distributed import join_processes
    from vidgan.evaluation import generators

    folder = record_folder(run)
    with join_processes() as processes:
        config, data = open_data(run, words, flags.checkpoint)
        options = generators.EvaluationOptions(
            checkpoint=flags.checkpoint,
            seed=flags.seed,
            judge_seed=judge_seed,
            cache=cache_folder() / "judges",
            features=cache_folder() / "features",
            images=folder if processes.is_first else None,
            device=processes.device,
            processes=processes,
            notify=say if processes.is_first else ignore,
        )
        record = generators.evaluate(run, data, choose(data.classes), options)
    if not processes.is_first:
        return
    tell_edited_settings(run, record.generator.step)
    if folder is not None:
        say(f"the record is {generators.save_record(record, folder)}")
    if config is not None:
        choose_best(Path(run), config, record)
    if flags.json:
        print_json(record.without_clips().to_dict())
    else:
        print_lines(generators.format_record(record))


def verify_record(path: str, words: tuple[str, ...], json: bool) -> None:
    """Print what does not agree in a record, or that all of it does.

    Raises:
        UserError: something does not agree, or it cannot be computed again.
    """
    from vidgan.evaluation.record import TOLERANCE
    from vidgan.evaluation.verify import verify

    others = [word for word in words if not word.startswith("data=")]
    if others:
        raise UserError(
            f"{others[0]!r} would change what is verified; only data=FOLDER may follow "
            "--verify, if the real clips have moved"
        )
    data = words[-1].removeprefix("data=") if words else None
    verdict = verify(path, data, cache=cache_folder() / "judges", notify=say)
    digits = f"to {TOLERANCE:g}" if verdict.elsewhere else "to the last bit"
    if json:
        print_json({"record": path, "agrees": verdict.agrees, **asdict(verdict)})
    else:
        for sentence in verdict.elsewhere:
            print_lines(f"not the machine of the record: {sentence}")
        for sentence in verdict.findings:
            print_lines(sentence)
        if verdict.agrees:
            print_lines(f"{path} agrees {digits} with what its inputs give now")
    if not verdict.agrees:
        count = len(verdict.findings)
        raise UserError(f"{path} does not verify: {count} finding{'s' * (count > 1)}, listed above")


def print_protocols(as_json: bool) -> None:
    """Every protocol with a line each."""
    from vidgan.evaluation.protocols import list_protocols

    rows = list_protocols()
    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in rows])
        return
    width = max(len(name) for name, _ in rows)
    print_lines("\n".join(f"{name:<{width}}  {summary}" for name, summary in rows))


def print_protocol(name: str, words: tuple[str, ...], as_json: bool) -> None:
    """A protocol in full, with the changes that words make."""
    from vidgan.evaluation.protocols import changed_protocol, describe_protocol, protocol_record

    changes = [word.removeprefix("protocol.") for word in words if word]
    protocol = changed_protocol(name, changes)
    if as_json:
        print_json(protocol_record(protocol))
    else:
        print_lines(describe_protocol(protocol))


def take_protocol(
    name: str | None, words: tuple[str, ...]
) -> tuple[tuple[str, ...], Callable[[Sequence[str]], "Protocol"]]:
    """The words without `protocol.FIELD=VALUE`, and what chooses a protocol for class names.

    Args:
        name: of a protocol; None leaves the choice to the classes of the data.
        words: of the command line.

    Raises:
        UserError: no such protocol or field, or its weights are not there.
    """
    from vidgan.evaluation.checks import check_protocol
    from vidgan.evaluation.protocols import changed_protocol, default_protocol

    mark = "protocol."
    changes = [word.removeprefix(mark) for word in words if word.startswith(mark)]
    rest = tuple(word for word in words if not word.startswith(mark))
    named = None if name is None else changed_protocol(name, changes)
    if named is not None:
        # Before videos are read, which may take long.
        check_protocol(named)
    return rest, lambda classes: named or changed_protocol(default_protocol(classes), changes)


def take_judge_seed(words: tuple[str, ...]) -> tuple[tuple[str, ...], int]:
    """The words without `judge_seed=N`, and N.

    Raises:
        UserError: N is not a whole number.
    """
    mark = "judge_seed="
    given = [word.removeprefix(mark) for word in words if word.startswith(mark)]
    rest = tuple(word for word in words if not word.startswith(mark))
    try:
        return rest, int(given[-1]) if given else 0
    except ValueError:
        raise UserError(f"judge_seed={given[-1]} must be a whole number") from None


def record_folder(source: str) -> Path | None:
    """Where records of a run or of a folder of clips go; None for a generator file.

    Raises:
        UserError: nothing can be written there.
    """
    from vidgan.evaluation.gather import is_folder_of_clips

    path = Path(source)
    if not (path / "config.yaml").exists() and not is_folder_of_clips(path):
        return None
    folder = path if path.is_dir() else path.parent
    if not os.access(folder, os.W_OK):
        raise UserError(
            f"{folder} cannot be written to, and the record belongs in {folder / 'evals'}: copy "
            "the clips to a folder of your own"
        )
    check_place(folder / "evals")
    return folder / "evals"


# ------------------------------------------------------------------------------------------------
# Verbs that put systems side by side: `compare` and `bench`

Sources = Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN_OR_RECORD ...")]
SuiteFile = Annotated[Path, tyro.conf.arg(metavar="SUITE.yaml")]


def compare(
    sources: Sources,
    /,
    *,
    out: Path = Path("comparison.html"),
    title: str = "Comparison",
    json: bool = False,
) -> None:
    """Put evaluated runs side by side: scores, cost, sizes, clips.

    Scores of different protocols, judges, numbers of clips or real clips never share a column.
    Records that may have been edited are marked, those that contradict themselves refused.

    Args:
        sources: run folders and records of vidgan evaluate.
        out: page to write; .md, .csv, .tex and .json are written as such.
        title: headline of the page.
        json: print what OUT.json would hold.
    """
    from vidgan.comparing.results import compare as compare_sources
    from vidgan.comparing.results import write_comparison

    check_place(out)
    comparison = compare_sources(sources, title)
    write_comparison(comparison, out)
    for item in comparison.left_out:
        say(f"left out: {item}")
    for number, table in enumerate(comparison.tables[1:], 2):
        say(f"table {number} cannot share columns with table 1: {'; '.join(table.differs)}")
    print_comparison(comparison, json)
    say(f"written to {out}")


def print_comparison(comparison: "Comparison", as_json: bool) -> None:
    """The tables as Markdown, or everything as JSON."""
    from vidgan.report.comparison import comparison_json, comparison_markdown

    if as_json:
        print_lines(comparison_json(comparison), end="")
    else:
        print_lines(comparison_markdown(comparison, with_published=False).rstrip())


def bench(
    suite: SuiteFile,
    /,
    *,
    out: Path | None = None,
    workers: int = 1,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Train every system of a suite under one budget, evaluate all alike, and compare.

    The same command continues where it stopped.

    Args:
        suite: YAML file; configs/bench holds some.
        out: folder of runs and comparison; runs/bench-SUITE by default.
        workers: runs trained side by side.
        dry_run: print the suite as it was read, as JSON, and train nothing.
        json: print the comparison as JSON.
    """
    from vidgan.comparing.bench import read_suite, run_bench

    found = read_suite(suite)
    if dry_run:
        print_json(asdict(found))
        return
    out = out or Path("runs") / f"bench-{suite.stem}"
    comparison = run_bench(found, out, say, workers, suite.stem)
    print_comparison(comparison, json)
    say(f"open {out / 'index.html'}")
