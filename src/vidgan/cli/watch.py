"""Following a run: every checkpoint is evaluated once, while training goes on elsewhere."""

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vidgan.cli.common import choose_best, open_data
from vidgan.core.files import cache_folder, sha256_of
from vidgan.core.progress import Notify, say
from vidgan.errors import UserError, printable
from vidgan.evaluation.gather import DataInputs, data_inputs, plain_origin
from vidgan.evaluation.generators import EvaluationOptions, evaluate, save_record
from vidgan.evaluation.protocols import Protocol, protocol_id
from vidgan.evaluation.record_checks import read_run_records
from vidgan.evaluation.record_types import Record, Seeds
from vidgan.sampling.storage import (
    GENERATOR_FILE,
    checkpoint_folder,
    list_checkpoints,
    read_card,
    read_pointer,
)
from vidgan.training.presets import load_run_config
from vidgan.training.run_folder import is_training

SECONDS_BETWEEN_LOOKS = 2.0
"""Each poll lists the checkpoint folder."""

SECONDS_OF_PATIENCE = 30.0
"""After this long without a new checkpoint, report that nothing is training."""

NICENESS = 10
"""Training has priority wherever both want the same core."""

SHARE_OF_CORES = 4
"""One core in this many is used: threads waiting for a busy core would stall each other."""

Chooser = Callable[[Record], None]
"""Called with every new record: chooses the best checkpoint and writes the page of the run."""


@dataclass
class Watch:
    """The state of one watch: what to evaluate, how, and the results so far.

    Attributes:
        run: the run folder.
        score: makes the record of a step's checkpoint.
        choose: called with every record.
        notify: called with a short message about what happens next.
        known: SHA-256 of generator files that were evaluated before.
        done: the same of those that this watch has looked at.
        records: made by this watch.
        faults: sentences about checkpoints that could not be evaluated.
    """

    run: Path
    score: Callable[[int], Record]
    choose: Chooser
    notify: Notify
    known: frozenset[str] = frozenset()
    done: set[str] = field(default_factory=set)
    records: int = 0
    faults: list[str] = field(default_factory=list)
    _hashes: dict[tuple[int, int], str] = field(default_factory=dict)

    def pending(self) -> list[int]:
        """Steps whose checkpoints wait, the oldest first, since it may be the next to go."""
        found = ((step, self._hash(step)) for step in list_checkpoints(self.run))
        return [
            step
            for step, digest in found
            if digest is not None and digest not in self.done | self.known
        ]

    def take(self, step: int, json_lines: bool) -> None:
        """Evaluate one checkpoint; failures are reported, and the watch continues."""
        digest = self._hash(step)
        self.notify(f"step {step}")
        try:
            record = self.score(step)
        except UserError as error:
            if digest is not None:
                self.done.add(digest)
            is_gone = not checkpoint_folder(self.run, step).exists()
            sentence = "was removed before it could be evaluated" if is_gone else f"{error}"
            self.faults.append(f"step {step}: {sentence}")
            self.notify(self.faults[-1])
            return
        self.done |= {record.generator.sha256 or "", digest or ""}
        self.records += 1
        self.notify(f"the record is {save_record(record, self.run / 'evals')}")
        self.choose(record)
        line = json.dumps(record.without_clips().to_dict()) if json_lines else _line(record)
        print(printable(line), flush=True)

    def is_over(self) -> bool:
        """Whether the run has shown all its clips and every checkpoint has been looked at."""
        steps = list_checkpoints(self.run)
        if not steps or self.pending():
            return False
        total = load_run_config(self.run).training.total_clips
        try:
            card = read_card(checkpoint_folder(self.run, steps[-1]) / GENERATOR_FILE)
        except UserError:
            # Removed this very moment: the next look sees what came instead.
            return False
        return card.clips_seen >= total

    def _hash(self, step: int) -> str | None:
        """SHA-256 of a step's generator file, computed once; None if it is gone by now."""
        file = checkpoint_folder(self.run, step) / GENERATOR_FILE
        try:
            key = step, file.stat().st_mtime_ns
            if key not in self._hashes:
                self._hashes[key] = sha256_of(file)
            return self._hashes[key]
        except FileNotFoundError:
            return None


def watch_run(
    run: str,
    words: tuple[str, ...],
    *,
    choose: Callable[[Sequence[str]], Protocol],
    seed: int,
    judge_seed: int,
    json_lines: bool,
) -> None:
    """Evaluate every checkpoint of a run, those to come included, until the run is finished.

    Args:
        run: the run folder.
        words: settings of the data, if they differ from those of the run.
        choose: the protocol for data with these classes.
        seed: as in `evaluate`, and so is `judge_seed`.
        judge_seed: of the judge.
        json_lines: print a record a line.

    Raises:
        UserError: no run folder, or no checkpoint could be evaluated.
    """
    if not (Path(run) / "config.yaml").exists():
        raise UserError(f"{run} is not a run folder yet: start vidgan train first, then watch it")
    _step_back()
    config, data = open_data(run, words, "last")
    assert config is not None
    protocol = choose(data.classes)

    def score(step: int) -> Record:
        return evaluate(
            run,
            data,
            protocol,
            EvaluationOptions(
                checkpoint=step,
                seed=seed,
                judge_seed=judge_seed,
                cache=cache_folder() / "judges",
                notify=say,
            ),
        )

    seeds = Seeds(evaluation=seed, judge=judge_seed)
    known = _evaluated(Path(run), protocol_id(protocol), seeds, data_inputs(data, seed))
    if known:
        say(f"{len(known)} checkpoints were evaluated before and are not evaluated again")
    watch = Watch(
        Path(run), score, lambda record: choose_best(Path(run), config, record), say, known
    )
    _follow(watch, json_lines)


def _follow(watch: Watch, json_lines: bool) -> None:
    idle_since, was_told = time.monotonic(), False
    while not watch.is_over():
        pending = watch.pending()
        if pending:
            watch.take(pending[0], json_lines)
            idle_since, was_told = time.monotonic(), False
            continue
        is_late = time.monotonic() - idle_since > SECONDS_OF_PATIENCE
        if is_late and not was_told and not is_training(watch.run):
            watch.notify(f"no process is training in {watch.run}; waiting for it to continue")
            was_told = True
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if watch.faults and not watch.records and not watch.known:
        raise UserError(f"no checkpoint of {watch.run} could be evaluated: {watch.faults[-1]}")
    best = read_pointer(watch.run, "best")
    watch.notify(f"{watch.run} is finished, and its best checkpoint is step {best}")


def _step_back() -> None:
    """Leave the processor to training: the lowest need, few threads, no accelerator."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // SHARE_OF_CORES))


def _evaluated(run: Path, protocol: str, seeds: Seeds, real: DataInputs) -> frozenset[str]:
    """Generator files with a whole record of this protocol, these seeds and these real clips."""
    # Checkpoints of other sizes read other levels of the same clips.
    same = {**plain_origin(real), "levels": None}
    return frozenset(
        record.generator.sha256
        for record in (found.record for found in read_run_records(run)[0] if found.is_sealed)
        if record.protocol_id == protocol
        and record.seeds == seeds
        and {**(record.inputs or {}).get("data", {}), "levels": None} == same
        and record.generator.sha256 is not None
    )


def _line(record: Record) -> str:
    """Such as "step 600: space_time_swd 150 (real 61.3, floor 60.2)"."""
    scores = ", ".join(
        f"{name} {score.value:.4g} (real {score.real:.4g}, floor {score.floor:.4g})"
        for name, score in record.scores.items()
    )
    return f"step {record.generator.step}: {scores}"
