"""Kills a small training at random moments until it has had enough, and compares its bits.

    python tests/training/many_kills.py --kills 100

Every life of a training ends by SIGKILL or SIGTERM at a random moment of its time, its start and
its writes included, and the same settings go on. Whenever one comes to its end, its weights are
compared with those of a training that nobody disturbed, and another one begins.
"""

import argparse
import multiprocessing
import random
import shutil
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

if __name__ in ("__main__", "__mp_main__"):
    sys.path.insert(0, str(Path(__file__).parent))

from training_cases import Child, hash_of_ema, pack_clips, start_child, tiny_config

EVERY = ("training.checkpoint_every=3", "training.total_clips=80")
CASES = {
    "one process": (),
    "micro-batches": ("training.accumulate=2",),
    "0 to 2 loader processes": (),
    "two processes": (),
}
LIMIT_S = 1800.0
"""For a training to end by itself, on a machine with other work."""


@dataclass
class Result:
    """What a case came to; seconds are how long the other process outlived a kill at most."""

    case: str
    kills: int = 0
    terms: int = 0
    ends: int = 0
    equal: int = 0
    longest_s: float = 0.0

    def row(self) -> str:
        """A line of the table."""
        lag = f"{self.longest_s:.1f}" if self.longest_s else "-"
        return f"| {self.case} | {self.kills} | {self.terms} | {self.ends} | {self.equal} | {lag} |"


def start(case: str, run: Path, data: Path, dice: random.Random) -> list[Child]:
    """The processes of one life."""
    workers = dice.randint(0, 2) if "loader" in case else 0
    config = tiny_config(run, data, *EVERY, *CASES[case], f"training.workers={workers}")
    if case != "two processes":
        return [start_child(config)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        start_child(config, variables={**group, "RANK": rank, "LOCAL_RANK": rank}) for rank in "01"
    ]


def outlive(children: list[Child]) -> float:
    """Seconds until all have ended."""
    begin = time.monotonic()
    for child in children:
        child.process.join(LIMIT_S)
        assert not child.process.is_alive(), "a process goes on although another one was killed"
    return time.monotonic() - begin


def torment(case: str, kills: int, folder: Path, data: Path, seed: int) -> Result:
    """Kill a training so many times; the last life is left to its end."""
    dice, found = random.Random(seed), Result(case)
    begin = time.monotonic()
    whole = folder / "whole"
    outlive(start(case, whole, data, dice))
    life_s, expected = time.monotonic() - begin, hash_of_ema(whole)
    run = folder / "run"
    while True:
        children = start(case, run, data, dice)
        is_spared = found.kills + found.terms >= kills
        ends_s = time.monotonic() + dice.uniform(0, life_s)
        alive = children
        while alive and (is_spared or time.monotonic() < ends_s):
            time.sleep(0.005)
            alive = [child for child in children if child.process.is_alive()]
        if len(alive) == len(children):
            victim = dice.choice(children)
            if dice.random() < 0.7:
                victim.process.kill()
                found.kills += 1
            else:
                victim.process.terminate()
                found.terms += 1
            waited_s = outlive(children)
            found.longest_s = max(found.longest_s, waited_s if len(children) > 1 else 0.0)
            continue
        outlive(children)
        found.ends += 1
        found.equal += hash_of_ema(run) == expected
        if is_spared:
            return found
        shutil.rmtree(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="over all cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    given = parser.parse_args()
    multiprocessing.set_forkserver_preload(["vidgan.training.loop", "training_cases"])
    print("| case | SIGKILL | SIGTERM | ended | same bits | other process ends within s |")
    print("|" + " --- |" * 6, flush=True)
    with tempfile.TemporaryDirectory() as name:
        data = pack_clips(Path(name))
        for index, case in enumerate(given.cases):
            share = given.kills // len(given.cases) + (index < given.kills % len(given.cases))
            folder = Path(name) / str(index)
            folder.mkdir()
            found = torment(case, share, folder, data, given.seed + index)
            print(found.row(), flush=True)
            if found.equal != found.ends:
                raise SystemExit(f"{case}: {found.ends - found.equal} trainings have other bits")


if __name__ == "__main__":
    main()
