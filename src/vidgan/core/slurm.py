"""Processes that Slurm's srun started, described by the variables that torchrun sets.

This module loads no torch: the command line asks it before it knows what it will do.
"""

import os
import re
from collections.abc import MutableMapping

from vidgan.errors import UserError

FIRST_PORT, NUM_PORTS = 20_000, 10_000
"""Ports for the processes of a job to meet at: jobs on one host rarely take the same."""


def adopt_slurm(environ: MutableMapping[str, str] = os.environ) -> None:
    """Set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT for a task of srun.

    What torchrun, accelerate or the user set stays, and so does a program that srun started alone.
    A batch script has a task count as well, but is no task itself: only srun sets SLURM_STEP_ID.

    Args:
        environ: variables to read and to add to.

    Raises:
        UserError: Slurm's variables contradict each other.
    """
    if "WORLD_SIZE" in environ or "SLURM_STEP_ID" not in environ:
        return
    count = _number(environ, "SLURM_NTASKS", "1")
    if count == 1:
        return
    rank, local = _number(environ, "SLURM_PROCID"), _number(environ, "SLURM_LOCALID")
    if rank >= count:
        raise UserError(
            f"SLURM_PROCID={rank} is no task of SLURM_NTASKS={count}; start with srun, or set RANK"
            f" and WORLD_SIZE"
        )
    # A task with GPUs of its own sees them as number 0 and up.
    local = 0 if "SLURM_GPUS_PER_TASK" in environ else local
    job = _number(environ, "SLURM_JOB_ID", "0")
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", "127.0.0.1")
    environ.update(RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(local))
    environ.setdefault("MASTER_ADDR", first_host(nodes))
    environ.setdefault("MASTER_PORT", str(FIRST_PORT + job % NUM_PORTS))


def first_host(nodes: str) -> str:
    """The first host of a list as Slurm writes it.

    Example:
        >>> first_host("rack1node[03-05,9],other")
        'rack1node03'
    """
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", nodes).split(",")[0]


def _number(environ: MutableMapping[str, str], name: str, default: str = "") -> int:
    value = environ.get(name, default)
    if not value.isdecimal():
        raise UserError(f"{name}={value!r} is no number: start with srun, or set RANK, WORLD_SIZE")
    return int(value)
