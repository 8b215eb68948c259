"""trackio keeps one run of a run folder; its package asks for an older Pillow than is pinned."""

import importlib
from pathlib import Path

import pytest
from test_loggers import in_two_calls

from vidgan.training.logs import read_log


def test_trackio_keeps_one_run(
    tmp_path: Path, packed_clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    run = in_two_calls(tmp_path / "run", packed_clips, "training.log=trackio")
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    (name,) = storage.get_runs("vidgan")
    assert name.startswith("run-")
    rows = storage.get_logs("vidgan", name)
    numbers = {row["step"]: row["loss/generator"] for row in rows if "loss/generator" in row}
    assert numbers == {x["step"]: x["loss/generator"] for x in read_log(run / "log.jsonl")}
    assert [row["step"] for row in rows if "loss/generator" in row] == [5, 10, 15, 20]
    assert [row["step"] for row in rows if "samples" in row] == [10, 15, 20]
    assert list((tmp_path / "trackio").glob("**/*.mp4"))
