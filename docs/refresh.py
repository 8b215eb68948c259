"""Bring the outputs of commands that the documents quote up to date.

    python docs/refresh.py           rewrite them
    python docs/refresh.py --check   name the documents that are out of date, and fail

A quoted output is a fenced block below a line `<!-- output of: vidgan ... -->`.
"""

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path

from vidgan.cli import main as cli

DOCS = Path(__file__).parent
BLOCK = re.compile(
    r"(<!-- output of: vidgan (.+?) -->\n```text\n).*?(^```$)", re.DOTALL | re.MULTILINE
)


def output_of(words: str) -> str:
    """What a command prints, without spaces at the ends of lines."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = cli.run(shlex.split(words))
    if code:
        raise SystemExit(f"vidgan {words} ended with exit code {code}")
    return "".join(f"{line.rstrip()}\n" for line in printed.getvalue().splitlines())


def refreshed(text: str) -> str:
    """A document with every quoted output as the commands print it now."""
    return BLOCK.sub(lambda found: found[1] + output_of(found[2]) + found[3], text)


def main(words: list[str]) -> None:
    stale = []
    for path in sorted(DOCS.rglob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = refreshed(before)
        if after == before:
            continue
        stale.append(path.name)
        if "--check" not in words:
            path.write_text(after, encoding="utf-8")
    if stale:
        print(f"out of date: {', '.join(stale)}")
    if stale and "--check" in words:
        raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
