"""The page of known bugs names tests that there are, and every trap stands on it."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "known-bugs.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
DEFINED = re.compile(r"^def (test_\w+)", re.MULTILINE)


def named_tests() -> set[tuple[str, str]]:
    return set(NAMED.findall(PAGE.read_text(encoding="utf-8")))


def defined_tests(path: Path) -> set[tuple[str, str]]:
    name = path.relative_to(ROOT).as_posix()
    return {(name, test) for test in DEFINED.findall(path.read_text(encoding="utf-8"))}


def test_every_named_test_is_there() -> None:
    named = named_tests()
    assert len(named) > 50
    defined = set().union(*(defined_tests(ROOT / path) for path, _ in named))
    assert named - defined == set()


def test_every_trap_is_on_the_page() -> None:
    traps = [defined_tests(path) for path in sorted((ROOT / "tests").rglob("test_*_traps.py"))]
    assert len(traps) == 3
    assert set().union(*traps) - named_tests() == set()
