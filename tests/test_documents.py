"""Outputs that the documents quote are what the commands print."""

import importlib.util
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [path for path in DOCS.rglob("*.md") if "_build" not in path.parts]


@pytest.fixture(scope="module")
def refresh() -> ModuleType:
    spec = importlib.util.spec_from_file_location("refresh", DOCS / "refresh.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_quoted_outputs_are_up_to_date(refresh: ModuleType) -> None:
    num_blocks = 0
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        num_blocks += len(refresh.BLOCK.findall(text))
        assert refresh.refreshed(text) == text, f"{path}: run python docs/refresh.py"
    assert num_blocks > 0


def test_stale_output_is_replaced_and_nothing_else(refresh: ModuleType) -> None:
    block = "before\n<!-- output of: vidgan --version -->\n```text\n{}```\nafter\n"
    import vidgan

    fresh = block.format(f"vidgan {vidgan.__version__}\n")
    assert refresh.refreshed(block.format("vidgan 0.0.0\nold\n")) == fresh
    assert refresh.refreshed(block.format("")) == fresh
    with pytest.raises(SystemExit, match="exit code 2"):
        refresh.refreshed(block.format("").replace("--version", "nothing"))


def test_every_page_is_in_the_contents_of_the_site() -> None:
    text = (DOCS / "conf.py").read_text(encoding="utf-8")
    (contents,) = re.findall(r"^CONTENTS = \{(.*?)^\}", text, re.DOTALL | re.MULTILINE)
    patterns = re.findall(r'"([a-z][\w/*-]*)"', contents)
    names = [path.relative_to(DOCS).with_suffix("").as_posix() for path in PAGES]
    listed = {name for name in names if any(fnmatch(name, pattern) for pattern in patterns)}
    assert set(names) - listed == {"index"}
    first = (DOCS / "index.md").read_text(encoding="utf-8")
    top = {path.name for path in PAGES if path.parent == DOCS} - {"index.md"}
    assert {name for name in top if f"({name})" not in first} == set()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("furo")
    pytest.importorskip("myst_parser")
    build = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run([*build, DOCS, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    import vidgan

    page = (tmp_path / "python.html").read_text(encoding="utf-8")
    assert [name for name in vidgan.__all__ if f'.{name}"' not in page] == []
