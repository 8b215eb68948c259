"""Sets of small labelled clips that several tests share."""

import pytest
from metric_clips import Labelled, moving_shapes


@pytest.fixture(scope="session")
def training_shapes() -> Labelled:
    return moving_shapes(240, seed=0)


@pytest.fixture(scope="session")
def other_shapes() -> Labelled:
    return moving_shapes(80, seed=1)
