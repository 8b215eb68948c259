"""Trainings that are killed at random moments end in the bits of those that are not."""

import random
import time
from pathlib import Path

import pytest
from many_kills import CASES, start, torment


def test_a_killed_process_ends_the_other_one_with_one_sentence(
    packed_clips: Path, tmp_path: Path
) -> None:
    first, second = start("two processes", tmp_path / "run", packed_clips, random.Random(0))
    assert first.wait_until(lambda: first.step.value >= 1 and second.step.value >= 1, 300.0)
    second.kill()
    begin = time.monotonic()
    said = first.result()
    assert time.monotonic() - begin < 30
    assert said.startswith("UserError: another process of this training ended")
    assert said.count("\n") == 0


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_twenty_five_kills(case: str, packed_clips: Path, tmp_path: Path) -> None:
    found = torment(case, 25, tmp_path, packed_clips, seed=0)
    assert found.kills + found.terms >= 25
    assert found.ends >= 1
    assert found.equal == found.ends
    assert found.longest_s < 30
