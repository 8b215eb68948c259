"""The command that runs other people's code beside ours, as far as it goes without that code."""

import dataclasses
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from vidgan.errors import UserError

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "peers"


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARK))
    import beside

    return beside


@pytest.fixture
def command(beside: ModuleType) -> ModuleType:
    spec = importlib.util.spec_from_file_location("peers_command", BENCHMARK / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_missing_clones_are_named_with_the_lines_that_make_them(tmp_path: Path) -> None:
    words = [sys.executable, str(BENCHMARK), "--code", str(tmp_path), "--only", "dvdgan"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "lacks 2 of 2 repositories" in done.stderr
    folder = tmp_path / "ajbrock-BigGAN-PyTorch"
    assert f"git clone https://github.com/ajbrock/BigGAN-PyTorch {folder}" in done.stderr
    assert "checkout 98459431a5d618d644d54cd1e9fceb1e5045648d" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_clone_at_another_commit_is_refused(command: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "batsa003-videogan"
    folder.mkdir()
    named = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], [*named, "commit", "-q", "--allow-empty", "-m", "other"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    with pytest.raises(UserError, match="checkout 8ab98aa974228ec4a3a08a396b77f5e2cec68d5d"):
        command.table(tmp_path, "vgan")


def test_systems_without_code_to_run_are_listed_with_the_reason(
    command: ModuleType, tmp_path: Path
) -> None:
    peers = [peer for peer in command.PEERS if peer.compare is None]
    rows = [row for peer in peers for row in command.rows_of(peer, tmp_path)]
    assert {(row.aspect, row.difference) for row in rows} == {("not run by this command", None)}
    assert [row.deliberate.split(",")[0] for row in rows] == ["its code needs Lua Torch"]


def test_a_package_that_is_not_there_is_a_row(command: ModuleType, tmp_path: Path) -> None:
    def compare(folder: Path) -> list[object]:
        import no_such_package  # type: ignore[import-not-found]

        return [no_such_package]

    needs = {"compare": compare, "needs": "no_such_package"}
    peer = dataclasses.replace(command.PEERS[0], **needs)
    (row,) = command.rows_of(peer, tmp_path)
    assert row.deliberate == "its code needs no_such_package, which is not installed"
    with pytest.raises(ModuleNotFoundError):
        command.rows_of(dataclasses.replace(peer, needs="another"), tmp_path)


def test_a_name_that_no_system_has_is_refused(command: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no system begins with --only=xyz; there are mocogan"):
        command.table(tmp_path, "xyz")


def test_difference_is_relative_to_the_tensor_unless_that_vanishes(beside: ModuleType) -> None:
    ones, small = torch.ones(2, dtype=torch.float64), torch.full((2,), 1e-3, dtype=torch.float64)
    assert beside.difference([ones * 1.5, small], [ones, small]) == pytest.approx(0.5)
    assert beside.difference([ones, small * 1.25], [ones, small]) == pytest.approx(0.25)
    # What is far below the rest is measured by a millionth of the largest number.
    noise = torch.tensor([1e-18, 0.0], dtype=torch.float64)
    assert beside.difference([ones, noise], [ones, -noise]) == pytest.approx(2e-12)
    with pytest.raises(ValueError, match="all numbers are 0"):
        beside.difference([ones * 0], [ones * 0])
    with pytest.raises(ValueError, match="shapes differ"):
        beside.difference([ones], [torch.ones(3)])


def test_imports_are_those_of_the_folder_and_are_forgotten(
    beside: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "json.py").write_text("import missing.part\nvalue = missing.part.anything\n")
    import json

    with beside.imports_from(tmp_path, beside.stand_ins("missing", "missing.part")):
        import json as theirs

        assert theirs.value is None  # type: ignore[attr-defined]
    assert sys.modules["json"] is json
    assert "missing" not in sys.modules
    assert str(tmp_path) not in sys.path


def test_a_translation_asks_for_the_words_that_it_replaces(
    beside: ModuleType, tmp_path: Path
) -> None:
    file = tmp_path / "old.py"
    file.write_text("value = 7 / 2\n")
    assert beside.translated(file, {"7 / 2": "7 // 2"}).value == 3
    assert file.read_text() == "value = 7 / 2\n"
    with pytest.raises(ValueError, match="is not at the commit of the table"):
        beside.translated(file, {"7 // 2": "3"})
