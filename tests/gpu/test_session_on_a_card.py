"""`make gpu` in its tiny form on the CPU: every part runs, and the page says what came of it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tiny form leaves."""
    out = tmp_path_factory.mktemp("page") / "out"
    command = [sys.executable, "benchmarks/gpu.py", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "TINY": "1"}, check=True, timeout=1200)
    return out


@pytest.fixture
def parts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())["parts"]
    return found


@pytest.mark.slow
def test_every_part_finishes_and_only_what_needs_a_card_fails(parts: dict[str, Any]) -> None:
    before = ("machine", "levels", "tests", "presets", "layers", "graphed", "clips A", "clips B")
    after = ("loader", "resume", "compiled", "kernels", "switched", "training A", "training B")
    assert list(parts) == [*before, *after]
    assert {part["ended"] for part in parts.values()} == {"finished"}
    errors = {
        name: [row["error"] for row in part["rows"] if "error" in row]
        for name, part in parts.items()
    }
    assert errors.pop("graphed") == ["RuntimeError: these steps are not captured here"]
    assert not any(errors.values())
    assert parts["tests"]["summary"].startswith("2 passed")


@pytest.mark.slow
def test_the_numbers_of_a_step_fit_each_other(parts: dict[str, Any]) -> None:
    rows = parts["levels"]["rows"] + parts["presets"]["rows"]
    assert len(rows) == 3 * 2 + 1
    for row in rows:
        seconds = row["ms"] / 1e3
        assert row["tflop"] / seconds == pytest.approx(row["tflop_per_s"])
        assert row["gb"] / seconds == pytest.approx(row["gb_per_s"])
        assert row["clips_per_s"] == pytest.approx(row["batch"] / seconds)
        assert row["calls"] > 300
    assert all(row["resumed_equal"] and row["again_equal"] for row in parts["resume"]["rows"])


@pytest.mark.slow
def test_the_page_stands_in_few_files(folder: Path) -> None:
    files = {"results.json", "results.md", "session.log", "sheet-A.png", "sheet-B.png"}
    assert {file.name for file in folder.iterdir()} == files
    page = (folder / "results.md").read_text()
    for heading in ("Tests", "Rates", "Training steps", "Loader", "Training A", "Training B"):
        assert f"\n## {heading}\n" in page
    assert "RuntimeError: these steps are not captured here" in page


PART_THAT_HANGS = """
import json, pathlib, sys, time
lines = [{"done": 1}, {"begins": {"what": "a kernel"}}]
pathlib.Path(sys.argv[1]).write_text("".join(json.dumps(line) + "\\n" for line in lines))
time.sleep(600)
"""


def test_a_part_that_hangs_costs_its_own_time_alone(tmp_path: Path) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from gpu import end_within, read_rows

    file = tmp_path / "rows.jsonl"
    child = subprocess.Popen(
        [sys.executable, "-c", PART_THAT_HANGS, str(file)], start_new_session=True
    )
    while not file.exists() or len(file.read_text().splitlines()) < 2:
        assert child.poll() is None
    ended = end_within(child, 0.1)
    assert ended == "killed at its limit of 0 s"
    assert child.returncode == -9
    assert read_rows(file, ended) == [
        {"done": 1},
        {"what": "a kernel", "error": f"the process {ended}"},
    ]
