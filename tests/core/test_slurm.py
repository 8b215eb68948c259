"""What srun says of a task, in the variables that torchrun sets."""

import pytest

from vidgan.core.slurm import adopt_slurm, first_host
from vidgan.errors import UserError

TASK = {
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_ID": "123456",
    "SLURM_JOB_NODELIST": "gpu[07-08,12]",
}


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu[07-08,12]", "gpu07"),
        ("a1,a2", "a1"),
        ("alone", "alone"),
        ("rack[1-2]node[3,5],x", "rack1node3"),
    ],
)
def test_the_first_host_of_a_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_a_task_knows_its_place() -> None:
    given = dict(TASK)
    adopt_slurm(given)
    added = {name: value for name, value in given.items() if name not in TASK}
    assert added == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "gpu07",
        "MASTER_PORT": "23456",
    }
    own = TASK | {
        "SLURM_GPUS_PER_TASK": "1",
        "MASTER_ADDR": "here",
        "SLURM_STEP_NODELIST": "b[2-3]",
    }
    adopt_slurm(own)
    assert (own["LOCAL_RANK"], own["MASTER_ADDR"]) == ("0", "here")


@pytest.mark.parametrize(
    "given",
    [
        TASK | {"WORLD_SIZE": "2"},  # torchrun inside of a job
        TASK | {"SLURM_NTASKS": "1"},
        {name: value for name, value in TASK.items() if name != "SLURM_STEP_ID"},  # a batch script
        {},
    ],
)
def test_what_is_no_task_among_others_stays_as_it_is(given: dict[str, str]) -> None:
    before = dict(given)
    adopt_slurm(given)
    assert given == before


@pytest.mark.parametrize(("name", "value"), [("SLURM_PROCID", "8"), ("SLURM_NTASKS", "2(x2)")])
def test_contradictions_are_named(name: str, value: str) -> None:
    with pytest.raises(UserError, match=name):
        adopt_slurm(TASK | {name: value})
