"""Verbs that put systems side by side: `compare` and `bench`."""

import json
from pathlib import Path
from typing import Annotated

import tyro

from vidgan.cli.common import print_lines, say

Sources = Annotated[tuple[str, ...], tyro.conf.arg(metavar="RUN_OR_RECORD ...")]
SuiteFile = Annotated[Path, tyro.conf.arg(metavar="SUITE.yaml")]


def compare(
    sources: Sources,
    /,
    *,
    out: Path = Path("comparison.html"),
    title: str = "Comparison",
) -> None:
    """Put evaluated runs side by side: scores, cost, sizes, clips.

    Scores of different protocols, judges, numbers of clips or real clips never share a column.
    Records that may have been edited are marked, those that contradict themselves refused.

    Args:
        sources: run folders and records of vidgan evaluate.
        out: page to write; .md, .csv, .tex and .json are written as such.
        title: headline of the page.
    """
    from vidgan.comparing.results import compare as compare_sources
    from vidgan.comparing.results import write_comparison
    from vidgan.report.comparison import comparison_markdown

    comparison = compare_sources(sources, title)
    write_comparison(comparison, out)
    for item in comparison.left_out:
        say(f"left out: {item}")
    for number, table in enumerate(comparison.tables[1:], 2):
        say(f"table {number} cannot share columns with table 1: {'; '.join(table.differs)}")
    print_lines(comparison_markdown(comparison, with_published=False).rstrip())
    say(f"written to {out}")


def bench(
    suite: SuiteFile, /, *, out: Path | None = None, workers: int = 1, dry_run: bool = False
) -> None:
    """Train every system of a suite under one budget, evaluate all alike, and compare.

    The same command goes on where it was stopped.

    Args:
        suite: YAML file; configs/bench holds some.
        out: folder of runs and comparison; runs/bench-SUITE by default.
        workers: runs trained side by side.
        dry_run: print the suite as it was read, and train nothing.
    """
    from dataclasses import asdict

    from vidgan.comparing.bench import run_bench
    from vidgan.comparing.suite import read_suite
    from vidgan.report.comparison import comparison_markdown

    found = read_suite(suite)
    if dry_run:
        print(json.dumps(asdict(found), indent=2))
        return
    out = out or Path("runs") / f"bench-{suite.stem}"
    comparison = run_bench(found, out, say, workers, suite.stem)
    print_lines(comparison_markdown(comparison, with_published=False).rstrip())
    say(f"open {out / 'index.html'}")
