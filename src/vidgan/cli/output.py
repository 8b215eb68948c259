"""What the verbs print: results to stdout, for people or as JSON for machines."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def print_json(value: Any) -> None:
    """Print plain values as one JSON document."""
    print(json.dumps(value, indent=2, allow_nan=False, default=str))


def print_note(sentence: str) -> None:
    """Print a remark to stderr, if there is one."""
    if sentence:
        print(sentence, file=sys.stderr)


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Print rows as an aligned table, numbers to the right, nothing for absent values."""
    cells = [[in_words(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [
        all(isinstance(row.get(column), int | float | None) for row in rows) for column in columns
    ]
    for line in [list(columns), *cells]:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        print("  ".join(padded).rstrip())


def in_words(value: Any) -> str:
    """A value for people: thousands separated, four digits of a float, `yes` and `no`."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
