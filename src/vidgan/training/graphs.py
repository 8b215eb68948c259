"""Training steps as CUDA graphs: all kernels of a step in one launch.

At most sizes a step is thousands of kernels of a few microseconds each, which Python calls more
slowly than a GPU runs them. A graph records the calls of one step and replays them. It freezes
plain numbers at capture, so everything that differs between steps must be in tensors
at fixed addresses: clips, labels, random numbers, and the weight of a level that fades in. They are
filled before each replay. What decides which calls a step makes (the level, the penalties that are
due) belongs to the name of the graph.

The numbers are those of `TrainingStep.run`: the same kernels on the same inputs.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from vidgan.core.progress import Notify
from vidgan.core.randomness import BatchRandom
from vidgan.models.parts.growth import alpha_from, fades
from vidgan.training.step import Batch, Logs, TrainingStep, UpdateKey

PLAIN_STEPS = 2
"""Steps of a kind that are taken as they are before its graph is captured: what libraries set up at
their first call must not be part of it, and an optimizer has to have its moments."""

Work = Callable[[], list[Tensor]]
Capture = Callable[[Work], tuple[Callable[[], object], list[Tensor]]]
"""Makes of work without inputs something that does it again, and the tensors where its results then
lie."""


class StepGraphs:
    """Runs the steps of a `TrainingStep`, replaying graphs once they are captured.

    Args:
        step: whose steps are taken.
        notify: takes the sentence about steps that cannot be captured.
        make_capture: makes what captures the graphs of one phase, the time in which a graph can
            be taken again; None captures nothing.
    """

    def __init__(
        self,
        step: TrainingStep,
        notify: Notify,
        make_capture: Callable[[], Capture] | None,
    ) -> None:
        self.step, self.notify, self.make_capture = step, notify, make_capture
        self.capture: Capture | None = None
        self.kinds: dict[Any, _Kind] = {}
        self.phase: Any = None

    def run(self, number: int, attempt: int, next_batch: Callable[[], Batch]) -> Logs:
        """Take step `number`, see `TrainingStep.run`."""
        if self.make_capture is None:
            return self.step.run(number, attempt, next_batch)
        self.drop_stale(self.make_capture)
        kind = self.kinds.setdefault(self.name_of(number), _Kind(self.step.processes.device))
        kind.steps += 1
        if kind.steps < PLAIN_STEPS:
            return self.step.run(number, attempt, next_batch)
        batches = [next_batch() for _ in range(self.step.settings.discriminator_steps)]
        if kind.steps == PLAIN_STEPS:
            kind.batches = [_empty_like(batch) for batch in batches]
            with kind.tape.attached(self.step):
                return self.step.run(number, attempt, iter(batches).__next__)
        kind.fill(self.step, number, attempt, batches)
        if kind.replay is None:
            try:
                self.capture_step(kind, number, attempt)
            except (RuntimeError, NotImplementedError) as error:
                self.give_up(error)
                return self.step.run(number, attempt, iter(batches).__next__)
        assert kind.replay is not None
        kind.replay()
        self.step.last_batch = kind.last_batch
        self.step.average(number)
        return {name: loss.clone() for name, loss in zip(kind.names, kind.losses, strict=True)}

    def capture_step(self, kind: "_Kind", number: int, attempt: int) -> None:
        """Capture the calls of a step on the tensors of `kind`."""
        step = self.step

        def work() -> list[Tensor]:
            kind.tape.rewind()
            with kind.tape.attached(step), alpha_from(kind.alpha):
                logs = step.update_players(number, attempt, iter(kind.batches).__next__)
            kind.names, kind.last_batch = list(logs), step.last_batch
            return [value.detach() for value in logs.values()]

        assert self.capture is not None
        for optimizer in step.optimizers.values():
            for group in optimizer.param_groups:
                if group.get("fused"):
                    group["capturable"] = True
        kind.replay, kind.losses = self.capture(work)

    def give_up(self, error: Exception) -> None:
        """Run every step without graphs from here on, and report why."""
        self.make_capture, self.kinds = None, {}
        for optimizer in self.step.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        for network in self.step.gan.networks.values():
            for layer in network.running_layers():
                layer.forget()
        reason = " ".join(str(error).split("\n", 1)[0].split())[:120]
        self.notify(f"steps run without CUDA graphs, which is slower: {reason}")

    def name_of(self, number: int) -> tuple[Any, ...]:
        """The key that determines which calls step `number` makes within a phase."""
        loss, turns = self.step.loss, self.step.settings.discriminator_steps
        updates = range(number * turns, (number + 1) * turns)
        return (
            *(update % p.every == 0 for update in updates for p in loss.penalties.values()),
            *((update + 1) % c.every == 0 for update in updates for c in loss.constraints.values()),
        )

    def drop_stale(self, make_capture: Callable[[], Capture]) -> None:
        """Forget graphs of another level or number format, or of moments that are gone."""
        step = self.step
        stage = step.stage
        assert stage is not None
        phase = (stage.level, fades(stage), stage.batch_size, step.settings.precision)
        moments = [_first_moment(optimizer) for optimizer in step.optimizers.values()]
        if self.phase is not None:
            same = all(a is b or a is None for a, b in zip(self.phase[1], moments, strict=True))
            if self.phase[0] == phase and same:
                self.phase = (phase, moments)
                return
        self.phase, self.kinds, self.capture = (phase, moments), {}, make_capture()


def step_graphs(step: TrainingStep, notify: Notify) -> StepGraphs:
    """Takes the steps of `step`, as graphs where its device and settings allow it."""
    # RMSprop counts its steps on the CPU, and the processes of a group meet outside of a graph.
    kinds = {type(optimizer) for optimizer in step.optimizers.values()}
    allowed = (
        step.settings.cuda_graphs
        and step.processes.device.type == "cuda"
        and step.processes.count == 1
        and kinds <= {torch.optim.Adam, torch.optim.SGD}
    )
    return StepGraphs(step, notify, CardCapture if allowed else None)


class CardCapture:
    """Captures work on the current card; what one graph leaves free serves the others too.

    Memory that graphs share ends with the last of them: other graphs need another capture.
    """

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Work) -> tuple[Callable[[], object], list[Tensor]]:
        # What the allocator keeps for steps without a graph is of no use to those with one.
        torch.cuda.empty_cache()
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as those of a user's program, may go on using the card.
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            results = work()
        return graph.replay, results


# ------------------------------------------------------------------------------------------------
# The buffers that a graph reads


@dataclass
class _Source:
    """Random numbers of one key: how to draw them again, and where they go."""

    key: UpdateKey
    open_rows: Callable[[UpdateKey], Any]
    places: list[tuple[Any, Tensor]] = field(default_factory=list)


class PlaceTape:
    """The random numbers of a step in the order in which it asks for them.

    While the first step is recorded, numbers are drawn as usual, and a buffer is made for each.
    After `rewind` the places are handed out instead; `fill` draws the numbers of any step into
    them.
    """

    def __init__(self) -> None:
        self._sources: list[_Source] = []
        self._given: Iterator[_Source] | None = None

    def attached(self, step: TrainingStep) -> "_Attached":
        """A block in which `step` takes its random numbers from here."""
        return _Attached(self, step)

    def rewind(self) -> None:
        """From here on hand out the places."""
        self._given = iter(self._sources)

    def random(
        self, key: UpdateKey, open_rows: Callable[[UpdateKey], BatchRandom]
    ) -> "TapedRandom":
        """See `Tape`."""
        return TapedRandom(*self._next(key, open_rows))

    def view(self, key: UpdateKey, draw: Callable[[UpdateKey], Tensor | None]) -> Tensor | None:
        """See `Tape`."""
        source, is_new = self._next(key, draw)
        if not is_new:
            return source.places[0][1] if source.places else None
        value = draw(key)
        if value is not None:
            source.places.append((None, torch.empty_like(value)))
        return value

    def fill(self, number: int, attempt: int) -> None:
        """Draw what step `number` would draw into all places."""
        for source in self._sources:
            if source.places:
                opened = source.open_rows(source.key._replace(step=number, attempt=attempt))
                for asked, place in source.places:
                    place.copy_(opened if asked is None else opened.draw(*asked))

    def _next(self, key: UpdateKey, open_rows: Callable[[UpdateKey], Any]) -> tuple[_Source, bool]:
        if self._given is not None:
            return next(self._given), False
        self._sources.append(_Source(key, open_rows))
        return self._sources[-1], True


class TapedRandom(BatchRandom):
    """Random rows of a tape."""

    def __init__(self, source: _Source, is_new: bool) -> None:
        self._source = source
        self._rows = source.open_rows(source.key) if is_new else None
        self._given = iter(source.places)

    def draw(self, kind: Literal["uniform", "normal"], shape: tuple[int, ...]) -> Tensor:
        """The next random rows of either kind."""
        if self._rows is None:
            return next(self._given)[1]
        value: Tensor = self._rows.draw(kind, shape)
        self._source.places.append(((kind, shape), torch.empty_like(value)))
        return value


class _Attached:
    def __init__(self, tape: PlaceTape, step: TrainingStep) -> None:
        self._tape, self._step = tape, step

    def __enter__(self) -> None:
        self._step.tape = self._tape

    def __exit__(self, *error: object) -> None:
        self._step.tape = None


@dataclass
class _Kind:
    """One kind of step: its graph, once there is one, and what the graph reads and writes."""

    device: torch.device
    steps: int = 0
    tape: PlaceTape = field(default_factory=PlaceTape)
    batches: list[Batch] = field(default_factory=list)
    replay: Callable[[], object] | None = None
    names: list[str] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    last_batch: Batch | None = None

    def __post_init__(self) -> None:
        self.alpha = torch.ones((), dtype=torch.float64, device=self.device)

    def fill(self, step: TrainingStep, number: int, attempt: int, batches: list[Batch]) -> None:
        """Put what step `number` depends on where the graph reads it."""
        assert step.stage is not None
        self.alpha.fill_(step.stage.alpha)
        for place, batch in zip(self.batches, batches, strict=True):
            place.real.copy_(batch.real)
            if place.labels is not None and batch.labels is not None:
                place.labels.copy_(batch.labels)
        self.tape.fill(number, attempt)


def _empty_like(batch: Batch) -> Batch:
    labels = None if batch.labels is None else torch.empty_like(batch.labels)
    return dataclasses.replace(batch, real=torch.empty_like(batch.real), labels=labels)


def _first_moment(optimizer: torch.optim.Optimizer) -> Tensor | None:
    """A tensor of the optimizer's memory by which that memory is known."""
    for state in optimizer.state.values():
        if "exp_avg" in state:
            moment: Tensor = state["exp_avg"]
            return moment
    return None
