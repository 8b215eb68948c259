"""Steps taken again on fixed places give the bits of steps taken as they are.

What a card captures as a graph is here a second call of the same Python, so that all but the
capture itself runs on a CPU; `tests/gpu` has the same on a card.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_baseline_steps import PLAYS, batches
from test_baseline_steps import make_step as make_play
from test_step import FADE, SHAPE, STABLE, make_step, real_batches, weights
from torch import Tensor

from vidgan.models.base import Stage
from vidgan.training.graphs import PLAIN_STEPS, StepGraphs, Work, step_graphs
from vidgan.training.step import Batch, Logs, TrainingStep


class Again:
    """Captures nothing: does the work again at every replay."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, work: Work) -> tuple[Callable[[], object], list[Tensor]]:
        self.captured += 1
        results: list[Tensor] = []

        def replay() -> None:
            self.replayed += 1
            results[:] = work()

        return replay, results


def take(
    step: TrainingStep, stages: list[Stage], next_batch: Callable[[], Batch], again: Again | None
) -> list[Logs]:
    graphs = StepGraphs(step, pytest.fail, None if again is None else lambda: again)
    logs = []
    for number, stage in enumerate(stages):
        step.enter(stage)
        logs.append(graphs.run(number, 0, next_batch))
    return logs


def assert_equal(pair: list[TrainingStep], logs: list[list[Logs]]) -> None:
    for plain, replayed in zip(*logs, strict=True):
        assert plain.keys() == replayed.keys()
        for name, value in plain.items():
            assert torch.equal(value, replayed[name]), name
    first, second = (weights(step) | step.averaged.state_dict() for step in pair)
    for name, weight in first.items():
        assert torch.equal(weight, second[name]), name


SMALL = Stage(level=0, frames=SHAPE.frames, resolution=4, batch_size=4)


@pytest.mark.parametrize("loss", ["wgan-gp", "swgan", "ns-r1", "r3gan", "wgan-svc"])
def test_a_fade_and_lazy_penalties_keep_their_bits(loss: str) -> None:
    # A fade whose weight differs from step to step, then the stable level; penalties and
    # constraints that are due now and then.
    fading = [replace(FADE, alpha=0.05 * count) for count in range(1, 13)]
    again, pair, logs = Again(), [], []
    for capture in (None, again):
        step = make_step(loss, ema_start=3, ema_beta=0.9, ema_rampup=0.4)
        pair.append(step)
        logs.append(take(step, fading + [STABLE] * 20, real_batches(), capture))
    assert again.captured >= 2
    assert again.replayed >= 32 - 4 * (PLAIN_STEPS + 1) * 2
    assert_equal(pair, logs)


@pytest.mark.parametrize("play", PLAYS)
def test_other_models_keep_their_bits(play: str) -> None:
    again, pair, logs = Again(), [], []
    for capture in (None, again):
        step = make_play(PLAYS[play])
        pair.append(step)
        logs.append(take(step, [_only_stage(step)] * 13, batches(PLAYS[play]), capture))
    assert again.replayed >= 4
    assert_equal(pair, logs)


def _only_stage(step: TrainingStep) -> Stage:
    stage: Any = step.stage
    return stage or Stage(level=0, frames=4, resolution=8, batch_size=4)


def test_several_updates_and_micro_batches_keep_their_bits() -> None:
    pair, logs = [], []
    for capture in (None, Again()):
        step = make_step("wgan-gp", discriminator_steps=2, accumulate=2, fakes="fresh")
        pair.append(step)
        logs.append(take(step, [STABLE] * 6, real_batches(), capture))
    assert_equal(pair, logs)


def test_graphs_of_moments_that_are_gone_are_not_replayed() -> None:
    step, again = make_step("wgan-gp"), Again()
    graphs, next_batch = StepGraphs(step, pytest.fail, lambda: again), real_batches()
    step.enter(STABLE)
    for number in range(PLAIN_STEPS + 2):
        graphs.run(number, 0, next_batch)
    assert (again.captured, again.replayed) == (1, 2)
    # As a roll-back leaves the optimizers.
    for optimizer in step.optimizers.values():
        optimizer.state.clear()
    for number in range(PLAIN_STEPS):
        graphs.run(number, 1, next_batch)
    assert (again.captured, again.replayed) == (1, 2)
    graphs.run(PLAIN_STEPS, 1, next_batch)
    assert again.captured == 2


def test_what_cannot_be_captured_is_said_once_and_taken_as_it_is() -> None:
    def refuse(work: Work) -> Any:
        work()
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    # Work that was called leaves notes of batch norms and a gradient; here it also moved weights,
    # which on a card it does not.
    told: list[str] = []
    step = make_step("wgan-gp")
    graphs, next_batch = StepGraphs(step, told.append, lambda: refuse), real_batches()
    step.enter(STABLE)
    logs = [graphs.run(number, 0, next_batch) for number in range(PLAIN_STEPS + 3)]
    assert len(logs) == PLAIN_STEPS + 3
    (sentence,) = told
    assert sentence == (
        "steps run without CUDA graphs, which is slower: operation not permitted when stream is "
        "capturing"
    )


def test_a_cpu_captures_nothing() -> None:
    assert step_graphs(make_step("wgan-gp"), pytest.fail).make_capture is None
