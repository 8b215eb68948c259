"""Batch norm over two processes computes what one process computes."""

from pathlib import Path

import pytest
import torch
from launching import torchrun
from torch import Tensor
from two_processes_norms import PLAYS, play

from vidgan.core.distributed import Processes

pytestmark = pytest.mark.slow

Found = dict[str, dict[str, Tensor]]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, Found]:
    """What each of two processes holds after its steps."""
    out = tmp_path_factory.mktemp("ranks")
    done = torchrun(Path(__file__).with_name("two_processes_norms.py"), str(out))
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(2))
    return first, second


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((value - other[key]).abs().max()) for key, value in one.items())


@pytest.mark.parametrize("name", PLAYS)
def test_weights_and_statistics_agree_with_one_process(
    ranks: tuple[Found, Found], name: str
) -> None:
    alone = play(name, Processes())
    assert any("running_var" in key for key in alone)
    assert largest_difference(ranks[0][name], alone) < 1e-9


@pytest.mark.parametrize("name", PLAYS)
def test_processes_hold_the_same_bits(ranks: tuple[Found, Found], name: str) -> None:
    assert largest_difference(ranks[0][name], ranks[1][name]) == 0


def test_statistics_of_each_process_alone_would_not_do(ranks: tuple[Found, Found]) -> None:
    assert largest_difference(ranks[0]["vgan apart"], play("vgan", Processes())) > 1e-5
