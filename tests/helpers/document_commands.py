"""Commands that documents tell their readers to type: found, and parsed as vidgan does."""

import functools
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidgan.cli import main as cli

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("start", "your-clips", "index")),
    *sorted(
        path
        for path in (ROOT / "docs").rglob("*.md")
        if path.stem not in ("start", "your-clips", "index") and "_build" not in path.parts
    ),
]
"""In the order in which a newcomer reads them."""

SHELL = ("", "sh", "bash", "console")
"""Languages of blocks whose lines are typed."""

STARTERS = r"(?:torchrun|srun|docker run|python\S*)"
MAY_PRECEDE = rf"^(?:\$ )?(?:[A-Z_]+=\S+ )*(?:{STARTERS} .*?)?"


def typed_lines(text: str) -> Iterator[str]:
    """Lines of shell blocks, fenced or indented, joined at backslashes, without remarks."""
    fenced = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    for language, block in fenced.findall(text):
        if language in SHELL:
            yield from _joined(block)
    for block in re.findall(r"(?:^    .*\n)+", fenced.sub("", text), re.MULTILINE):
        yield from _joined(inspect.cleandoc(block))


def _joined(block: str) -> Iterator[str]:
    for line in re.sub(r"\\\n\s*", " ", block).splitlines():
        yield re.split(r"(?:^|\s+)# ", line)[0].strip()


def commands(text: str) -> list[str]:
    """The lines that call vidgan, whatever starts it."""
    return [line for line in typed_lines(text) if words_of(line) is not None]


def words_of(line: str) -> list[str] | None:
    """The words behind `vidgan` in a line that calls it; None for other lines."""
    found = re.match(rf"{MAY_PRECEDE}(?:-m )?(?:\.venv/bin/)?vidgan ([a-z-].*)", line)
    if found is None:
        return None
    try:
        words = shlex.split(found[1])
    except ValueError:
        return None
    ends = [n for n, word in enumerate(words) if word in (">", "|", "&&", ">>")]
    return words[: ends[0]] if ends else words


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The verb of a call and its arguments as vidgan parses them, without running it.

    Raises:
        UserError, AssertionError: vidgan would refuse the words.
    """
    rest, trusted = list(words), []
    while "--trust" in rest:
        place = rest.index("--trust")
        trusted += rest[place : place + 2]
        del rest[place : place + 2]
    name, rest = cli.find_verb(rest)
    verb = cli.load_verb(name)
    arguments: dict[str, Any] = {}

    @functools.wraps(verb)
    def note(*given: Any, **named: Any) -> None:
        arguments.update(inspect.signature(verb).bind(*given, **named).arguments)

    code = cli.call_verb(name, note, rest)
    assert code == 0, f"exit code {code}"
    return name, arguments


# ------------------------------------------------------------------------------------------------
# Which of them are run, and where

NOT_RUN = {
    r"^docker ": "a Docker daemon",
    r"^srun |--nnodes": "several machines: tests/training/test_distributed.py",
    r"s3://": "an object store: tests/data/packed/test_cloud.py",
    r"\b(films|faces)\b": "films of others: tests/films, tests/data/build/test_engine.py",
    r"\bucf|runs/thesis": "a published set: tests/data/sources, tests/comparing/test_bench.py",
    r"protocol fvd-tf|lpips=|weights (convert|verify)": "weights of others: tests/extractors",
}
"""Commands that are only parsed: a pattern of them, and why, or where their like is run."""

RUN_APART = {
    "torchrun": r"^torchrun (?!--nnodes)",
    "trackio": r"log=.*trackio",
    "loggers": r"log=(?!.*trackio)",
    "onnx": r"^vidgan export .*\.onnx",
    "web": r"^vidgan (web-runtime|export .*\.html)",
    "explore": r"^vidgan explore",
    "hub": r"^vidgan (push|pull)(?!.*--dry-run)",
}
"""What a command needs that a page as a whole does not: packages of extras, or processes."""


def why_not_run(line: str) -> str:
    """The reason, or nothing."""
    return next((reason for mark, reason in NOT_RUN.items() if re.search(mark, line)), "")


def needs(line: str) -> str:
    """The key of `RUN_APART` for a command, or nothing."""
    return next((key for key, mark in RUN_APART.items() if re.search(mark, line)), "")


def lines_that_need(key: str) -> list[str]:
    """All commands of the documents that have this need, in their order."""
    lines = [line for path in PAGES for line in commands(path.read_text(encoding="utf-8"))]
    return list(dict.fromkeys(line for line in lines if needs(line) == key))
