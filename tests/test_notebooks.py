"""The notebooks below examples/ hold no outputs, and run to their ends."""

import ast
import builtins
import json
import os
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))

FEW_STEPS = (
    "[*'training.total_clips=16 training.stable_clips=0 training.fade_clips=0 training.batch_size=8"
    " training.minutes=null training.precision.networks=fp32 training.precision.penalty=fp32"
    " training.num_samples=4 training.precision.check=off data.workers=0'.split()]"
)
SMALL = {
    "first-clips": {"SEEDS": "range(4)", "STEPS": "2"},
    "your-data": {"WORDS": FEW_STEPS},
    "compare-two-systems": {
        "WORDS": FEW_STEPS,
        "VIDEOS": "120",
        "PROTOCOL": "__import__('vidgan.evaluation.protocols').evaluation.protocols"
        ".changed_protocol('stswd', ['num_clips=16', 'sliced.directions=8'])",
    },
}
"""What a test sets in place of a notebook's parameters."""


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


def code_of(path: Path) -> list[tuple[str, bool]]:
    """Code cells in order, each with whether it holds the parameters."""
    return [
        ("".join(cell["source"]), "parameters" in cell["metadata"].get("tags", []))
        for cell in cells(path)
        if cell["cell_type"] == "code"
    ]


def test_there_are_three_and_the_page_lists_them() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [path.stem for path in NOTEBOOKS] == sorted(SMALL)
    assert all(f"({path.name})" in page for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_clean_and_its_names_exist(path: Path) -> None:
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert whole["nbformat"] == 4
    ids = [cell["id"] for cell in whole["cells"]]
    assert len(ids) == len(set(ids))
    for cell in whole["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    assert sum(is_first for _, is_first in code_of(path)) == 1
    known = set(vars(builtins)) | {"vidgan"}
    for source, _ in code_of(path):
        tree = ast.parse(source)
        check_vidgan_names(tree)
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        known |= defined(tree)
        assert used <= known, f"{path.stem}: {sorted(used - known)} are not defined before"


def defined(tree: ast.AST) -> set[str]:
    """Every name that code binds, at whatever depth."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.FunctionDef):
            names |= {node.name, *(argument.arg for argument in node.args.args)}
    return names


def check_vidgan_names(tree: ast.AST) -> None:
    """Names of vidgan that code imports or takes from it are there."""
    import importlib

    import vidgan

    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vidgan"):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names), node.module
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.value.id != "vidgan" or hasattr(vidgan, node.attr), node.attr


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, (source, holds_parameters) in enumerate(code_of(path)):
        exec(compile(source, f"{path.name}, code cell {number}", "exec"), names)
        if holds_parameters:
            given = SMALL[path.stem]
            assert set(given) <= set(names), "a parameter was renamed"
            names.update({name: eval(value) for name, value in given.items()})
    printed = capsys.readouterr().out
    assert printed
    left = {file.name for file in Path().iterdir()}
    expected = {
        "first-clips": {"first.gif", "one-class.gif", "walk.gif"},
        "your-data": {"examples.gif", "samples.gif", "runs"},
        "compare-two-systems": {"comparison.html", "runs"},
    }
    assert left >= expected[path.stem]
    assert os.path.getsize(next(iter(expected[path.stem] - {"runs"}))) > 100  # noqa: PTH202
