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
