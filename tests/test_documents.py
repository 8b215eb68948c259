"""Outputs that the documents quote are what the commands print."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parent.parent / "docs"


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
    for path in DOCS.rglob("*.md"):
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
