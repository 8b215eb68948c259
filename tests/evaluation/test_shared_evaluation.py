"""Two processes evaluate and sample what one does."""

import json
from pathlib import Path
from typing import Any

import pytest
from launching import torchrun
from two_processes_evaluate import NUM_SAMPLES, work

from vidgan.core.distributed import Processes

pytestmark = pytest.mark.slow
OF_THE_MOMENT = {"created", "wall_seconds", "environment", "inputs", "hashes", "seal"}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What one process and two processes wrote."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    work(one, Processes())
    done = torchrun(Path(__file__).with_name("two_processes_evaluate.py"), str(two))
    assert done.returncode == 0, done.stderr
    return one, two


def test_every_process_has_the_record_of_a_single_one(both: tuple[Path, Path]) -> None:
    one, two = both
    expected = read_record(one / "stored-0.json")
    assert expected["scores"]["kernel_distance"]["value"] > 0
    for name in ("stored-0", "stored-1", "anew-0", "anew-1"):
        assert read_record(two / f"{name}.json") == expected, name


def test_both_processes_wrote_features(both: tuple[Path, Path]) -> None:
    one, two = (sorted((run / "features").rglob("*.npy")) for run in both)
    assert [path.name for path in one] == [path.name for path in two]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_samples_are_those_of_a_single_process(both: tuple[Path, Path]) -> None:
    one, two = (run / "samples" for run in both)
    names = sorted(path.name for path in one.iterdir())
    assert len(names) == NUM_SAMPLES + 2
    assert sorted(path.name for path in two.iterdir()) == names
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def read_record(path: Path) -> dict[str, Any]:
    record = json.loads(path.read_text())
    return {key: value for key, value in record.items() if key not in OF_THE_MOMENT}
