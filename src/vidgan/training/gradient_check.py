"""Gradient check before each level: the gradients of one step compared with float64.

A convolution kernel may be wrong on one processor or GPU alone, and training on
wrong gradients looks like training that is merely worse. So before the first step of a level,
`train` differentiates every loss of one small step in the chosen number formats and in float64, on
a copy of the networks, and compares layer by layer. Where they differ by more than rounding
explains, the penalty, or else all of the step, is computed in float32 at this level.
"""

import copy
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from vidgan.core.code_version import code_version
from vidgan.core.distributed import Processes
from vidgan.core.files import cache_folder, read_json, write_json_atomically
from vidgan.core.machine import has_bfloat16, processor_id, returning_memory
from vidgan.core.progress import Notify
from vidgan.core.settings import from_dict
from vidgan.data.dataset import ClipDataset, ClipRequest
from vidgan.errors import UserError
from vidgan.training.checkpoint import Float32, RunState
from vidgan.training.planner import clips_of_a_group
from vidgan.training.presets import Config, config_to_dict
from vidgan.training.settings import PrecisionConfig
from vidgan.training.step import Batch, TrainingStep

EMULATED = "bfloat16 is emulated on this device, and slow"
MAX_ERROR = 0.75
"""Distance of a layer's gradient to the true one, in lengths of the true one, that is rounding."""
MAX_SHARE = 0.05
"""The same in lengths of the whole gradient of the loss: a gradient that is nearly zero, as that of
many biases, is all rounding, and moves nothing. Without vector instructions rounding reaches 0.04
(a penalty's gradient of biases); the fault of AMX is at 0.25 and more."""
SHOWN = 3
"""Number of layers named in a message."""

Gradients = Mapping[str, Mapping[str, Tensor]]


class LayerError(NamedTuple):
    """How far the gradient of a parameter is from the true one.

    Attributes:
        loss: what was differentiated.
        name: of the parameter.
        cosine: of the angle between both; 0 where one of them is zero.
        ratio: length of the gradient over that of the true one.
        error: length of the difference over that of the true one.
        share: length of the difference over that of the true gradient of all parameters.
    """

    loss: str
    name: str
    cosine: float
    ratio: float
    error: float
    share: float

    @property
    def excess(self) -> float:
        """Error as a multiple of what rounding explains; NaN counts as infinitely many."""
        times = min(self.error / MAX_ERROR, self.share / MAX_SHARE)
        return math.inf if math.isnan(times) else times

    def __str__(self) -> str:
        return f"{self.name} in {self.loss} (cosine {self.cosine:.2f}, norm {self.ratio:.2f})"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of a comparison.

    Attributes:
        float32: what is to be computed in float32 although bfloat16 was asked for: `nothing`,
            `penalty` or `networks`; None if float32 is wrong as well.
        wrong: layers whose gradients are wrong in the formats asked for, the worst first.
        cosine: of the whole gradient, the lowest of all losses.
        milliseconds: what the comparison took.
    """

    float32: Float32 | None
    wrong: tuple[str, ...] = ()
    cosine: float = 1.0
    milliseconds: float = 0.0


# ------------------------------------------------------------------------------------------------
# Comparing


def layer_errors(found: Gradients, true: Gradients) -> list[LayerError]:
    """Compare gradients by loss and parameter, the worst first."""
    errors = []
    for loss, parts in true.items():
        whole = math.hypot(*(part.norm().item() for part in parts.values()))
        if not math.isfinite(whole):
            continue  # NaN in float64 too: the arithmetic is not to blame
        for name, truth in parts.items():
            value = found[loss][name].to(truth)
            far, length = (value - truth).norm().item(), truth.norm().item()
            lengths = length * value.norm().item()
            cosine = torch.sum(value * truth).item() / lengths if lengths else 0.0
            ratio, error, share = (
                over / below if below else math.inf if over else 0.0
                for over, below in ((value.norm().item(), length), (far, length), (far, whole))
            )
            errors.append(LayerError(loss, name, cosine, ratio, error, share))
    return sorted(errors, key=lambda error: -error.excess)


def in_float32(asked: PrecisionConfig) -> Iterator[tuple[Float32, PrecisionConfig]]:
    """The formats asked for, and step by step those that may take their place."""
    yield "nothing", asked
    if asked.networks == "bf16":
        if asked.penalty == "bf16":
            yield "penalty", replace(asked, penalty="fp32")
        yield "networks", replace(asked, networks="fp32", penalty="fp32")


def compare_formats(step: TrainingStep, batch: Batch, asked: PrecisionConfig) -> Verdict:
    """Find what has to be computed in float32 for the gradients to be right.

    The networks of `step` are copied; nothing of it moves, and no random number is taken.

    Args:
        step: at the stage to be checked.
        batch: few reals, as the loader yields them, of this process alone.
        asked: the formats that the settings ask for.
    """
    start_s = time.perf_counter()
    ladder = list(in_float32(asked))
    # Formats that agree are both correct; slow float64 decides where they differ.
    truth: Literal["fp32", "fp64"] = "fp32" if asked.networks == "bf16" else "fp64"
    verdict = _judge(step, batch, ladder[:1], truth)
    if verdict.wrong and truth == "fp32":
        verdict = _judge(step, batch, ladder, "fp64")
    return replace(verdict, milliseconds=round(1000 * (time.perf_counter() - start_s), 1))


def _judge(
    step: TrainingStep,
    batch: Batch,
    ladder: Sequence[tuple[Float32, PrecisionConfig]],
    truth: Literal["fp32", "fp64"],
) -> Verdict:
    """Compare formats with true ones, until one is right."""
    device = step.processes.device
    # Metal has no float64: there the truth comes from the processor.
    place = torch.device("cpu") if device.type == "mps" and truth == "fp64" else device
    exact = PrecisionConfig(networks=truth)
    # The penalty of an early game can be another one at fakes that differ by rounding alone.
    fake = probe_in(exact, step, place).first_fake(on_device(batch, place))
    true = gradients_in(exact, step, batch, place, fake)
    right: Float32 | None = None
    wrong: list[str] | None = None
    cosine = 1.0
    for float32, precision in ladder:
        found = gradients_in(precision, step, batch, device, fake)
        mistaken: dict[str, str] = {}
        for error in layer_errors(found, true):
            if error.excess > 1:
                mistaken.setdefault(error.name, str(error))  # once, where it is worst
        if wrong is None:
            wrong = list(mistaken.values())
            cosine = min(whole_cosine(found[loss], true[loss]) for loss in true)
        if not mistaken:
            right = float32
            break
    return Verdict(
        float32=right,
        wrong=tuple(wrong or ()),
        cosine=round(cosine, 6) if math.isfinite(cosine) else 0.0,
    )


def whole_cosine(found: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> float:
    """Cosine of the angle between two gradients of all parameters of a loss; 1 if both are zero."""
    first = torch.cat([found[name].flatten().double().cpu() for name in true])
    second = torch.cat([part.flatten().double().cpu() for part in true.values()])
    lengths = first.norm() * second.norm()
    return (first @ second / lengths).item() if lengths != 0 else 1.0


def gradients_in(
    precision: PrecisionConfig,
    step: TrainingStep,
    batch: Batch,
    device: torch.device,
    fake: Tensor | None = None,
) -> Gradients:
    """Gradients of a step's losses in some number formats, of a copy of its networks.

    Args:
        precision, device: what computes them.
        step, batch: as in `compare_formats`.
        fake: what the discriminators score in place of the generator's clips.
    """
    return probe_in(precision, step, device).gradients(on_device(batch, device), fake)


def probe_in(precision: PrecisionConfig, step: TrainingStep, device: torch.device) -> TrainingStep:
    """A step with copies of the networks of `step`.

    A level that fades in is taken half way: at its start the new layers have no gradient yet.
    """
    assert step.stage is not None
    dtype = torch.float64 if precision.networks == "fp64" else torch.float32
    settings = replace(step.settings, precision=precision, accumulate=1)
    probe = TrainingStep(
        copy.deepcopy(step.gan).to(device, dtype),
        step.averaged,
        step.loss,
        settings,
        step.seed,
        processes=Processes(device=device),
    )
    if step.stage.alpha < 1:
        probe.gan.set_stage(replace(step.stage, alpha=0.5))
    return probe


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch where a copy computes."""
    labels = None if batch.labels is None else batch.labels.to(device)
    return replace(batch, real=batch.real.to(device), labels=labels)


# ------------------------------------------------------------------------------------------------
# Before a level


class GradientCheck:
    """Checks each level before its first step, and sets the formats that the step computes in.

    The first process' verdict counts for all. It is kept in the user's cache for the next run of
    these settings on this machine, and the run's state keeps what follows from it.
    """

    def __init__(
        self,
        config: Config,
        dataset: ClipDataset,
        processes: Processes,
        notify: Notify,
        record: Callable[[int, dict[str, Any]], None] = lambda level, facts: None,
    ) -> None:
        """Prepare for a run.

        Args:
            config: settings of the run.
            dataset: its clips; the first ones serve.
            processes: that share the work.
            notify: takes a sentence about what was found.
            record: takes a level and plain values about its check.
        """
        self.asked = config.training.precision
        self.formats = dict(in_float32(self.asked))
        in_bfloat16 = self.asked.networks == "bf16" and self.asked.check != "off"
        self.emulates = in_bfloat16 and not has_bfloat16(processes.device)
        self.checked = self.formats["networks"] if self.emulates else self.asked
        self.config = config
        self.dataset = dataset
        self.processes = processes
        self.notify = notify
        self.record = record
        self.float32: dict[int, Float32] = {}

    def __call__(self, step: TrainingStep, state: RunState) -> RunState:
        """Check the level that `step` has entered, unless that was done, and return the new state.

        What the run computed in float32 at this level it goes on to compute so, wherever it runs.

        Raises:
            UserError: gradients are wrong in float32 as well, or in the formats asked for if
                `training.precision.check=strict`.
        """
        assert step.stage is not None
        is_same = state.stage.level == step.stage.level
        return replace(state, float32=self.prepare(step, state.float32 if is_same else "nothing"))

    def prepare(self, step: TrainingStep, so_far: Float32 = "nothing") -> Float32:
        """Set the formats of the level that `step` has entered, and name what is in float32."""
        assert step.stage is not None
        level = step.stage.level
        if level not in self.float32:
            self.float32[level] = self._decide(step, level, so_far)
        float32 = self.float32[level]
        step.settings = replace(step.settings, precision=self.formats[float32])
        return float32

    def _decide(self, step: TrainingStep, level: int, so_far: Float32) -> Float32:
        if self.asked.check == "off" or self.asked.networks == "fp64":
            return so_far
        names, refusal = list(self.formats), ""
        chosen = names.index("networks" if self.emulates else so_far)
        verdict, is_new = self._verdict(step, level) if self.processes.is_first else (None, False)
        if verdict is not None:
            refusal = refusal_of(verdict, level, self.checked)
            chosen = max(chosen, names.index(verdict.float32 or "nothing"))
            if not refusal:
                sentence = sentence_of(verdict, level, self.checked, names[chosen])
                facts = {**asdict(verdict), "float32": names[chosen], "sentence": sentence}
                self.record(level, {**facts, "emulated": self.emulates})
                if is_new or chosen:
                    self.notify(f"{EMULATED}; {sentence}" if self.emulates else sentence)
        chosen = self.processes.from_first(-1 if refusal else chosen)
        if chosen < 0:
            raise UserError(refusal or "the first process refused to train")
        return names[chosen]

    def _verdict(self, step: TrainingStep, level: int) -> tuple[Verdict | None, bool]:
        """The verdict on a level, if there is memory for one, and whether the cache had none."""
        batch = self._small_batch(step)
        key = json.dumps([*self._place(), level, list(batch.real.shape), self._settings()])
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        path = cache_folder() / "gradient-checks" / f"{name}.json"
        with suppress(OSError, ValueError):
            return from_dict(Verdict, read_json(path), str(path)), False
        keeps = self.config.training.keep_memory and self.processes.device.type == "cpu"
        try:
            with returning_memory(keeps):
                verdict = compare_formats(step, batch, self.checked)
        except torch.OutOfMemoryError:
            self.notify(f"gradients at level {level} are not checked: that needs more memory")
            return None, False
        with suppress(OSError):  # a cache that cannot be written to costs the next run a check
            write_json_atomically(path, asdict(verdict))
        return verdict, True

    def _small_batch(self, step: TrainingStep) -> Batch:
        """The first clips of the run: one group, and two at least, as batch norm needs."""
        stage = step.stage
        assert stage is not None
        count = max(2, clips_of_a_group(step.gan))
        asked = [ClipRequest(i, stage.frames, stage.resolution) for i in range(count)]
        samples = [self.dataset[request] for request in asked]
        clip = torch.stack([sample["clip"] for sample in samples])
        labels = torch.tensor([sample["label"] for sample in samples])
        return Batch(clip, labels if self.dataset.num_classes else None, count, 0)

    def _place(self) -> list[str]:
        """What a kernel's result depends on."""
        device, cudnn = self.processes.device, torch.backends.cudnn
        if device.type != "cuda":
            where = [device.type, processor_id()]
        else:
            version = str(cudnn.version())  # type: ignore[no-untyped-call]
            tf32 = f"tf32 {cudnn.allow_tf32}, {os.environ.get('NVIDIA_TF32_OVERRIDE', 'as asked')}"
            where = [torch.cuda.get_device_name(device), version, tf32]
        return [*where, str(torch.__version__), code_version()]

    def _settings(self) -> dict[str, Any]:
        """The settings that decide which kernels run, as plain values."""
        settings = config_to_dict(self.config)
        chosen = {name: settings[name] for name in ("model", "loss")}
        for name in ("precision", "augment"):
            chosen[name] = settings["training"][name]
        del chosen["precision"]["check"]
        return {**chosen, "classes": self.dataset.num_classes}


def refusal_of(verdict: Verdict, level: int, asked: PrecisionConfig) -> str:
    """Why training must stop; empty if it may continue."""
    if verdict.float32 is None:
        return (
            f"gradients at level {level} are wrong on this machine, in float32 as well: "
            f"{_listed(verdict.wrong)}; use another device or version of torch, or "
            f"training.precision.check=off to train all the same"
        )
    if verdict.wrong and asked.check == "strict":
        return (
            f"gradients at level {level} are wrong on this machine in {_in_words(asked)}: "
            f"{_listed(verdict.wrong)}; set training.precision.check=warn to compute the "
            f"{verdict.float32} in float32"
        )
    return ""


def sentence_of(verdict: Verdict, level: int, asked: PrecisionConfig, float32: str) -> str:
    """What was found at a level, and what is computed in float32 from here on."""
    took = f"checked in {verdict.milliseconds:.0f} ms"
    if verdict.wrong:
        found = f"are wrong on this machine in {_in_words(asked)}: {_listed(verdict.wrong)}"
    else:
        found = f"in {_in_words(asked)} agree with float64, cosine {verdict.cosine:.4f}"
    then = "" if float32 == "nothing" else f"; {float32} in float32 at this level"
    return f"gradients at level {level} {found}{then} ({took})"


def _in_words(asked: PrecisionConfig) -> str:
    if asked.networks == "fp32":
        return "float32"
    return "bfloat16" if asked.penalty == "bf16" else "bfloat16 with the penalty in float32"


def _listed(wrong: Sequence[str]) -> str:
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    return ", ".join(wrong[:SHOWN]) + more
