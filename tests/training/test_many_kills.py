"""Trainings that are killed at random moments end in the bits of those that are not."""

from pathlib import Path

import pytest
from many_kills import CASES, torment


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_twenty_five_kills(case: str, packed_clips: Path, tmp_path: Path) -> None:
    found = torment(case, 25, tmp_path, packed_clips, seed=0)
    assert found.kills + found.terms >= 25
    assert found.ends >= 1
    assert found.equal == found.ends
    assert found.longest_s < 30
