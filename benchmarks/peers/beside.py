"""What every comparison with another's code needs: loading that code, shared weights, a number.

Another's code is read from a folder of the user and never changed there. What it imports but does
not need here (loggers, data sets) is given to it as an empty stand-in; the few words of it that
only an old Python or PyTorch reads are replaced in memory, and must be there to be replaced.
"""

import importlib
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vidgan.losses.recipes import make_loss
from vidgan.models.base import GAN
from vidgan.training.presets import Config, load_config
from vidgan.training.step import Batch, TrainingStep

LEAST_SHARE = 1e-6
"""Of the largest number of an aspect: what a tensor that is smaller throughout is measured by."""

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Row:
    """One aspect of a system beside a peer.

    Attributes:
        aspect: what was compared.
        difference: the largest relative difference; None where only a sentence tells.
        deliberate: what is set or left different, and why.
    """

    aspect: str
    difference: float | None
    deliberate: str = ""


@dataclass(frozen=True)
class Peer:
    """A repository and the comparison with it.

    Attributes:
        system: ours.
        repository: `owner/name` on GitHub.
        commit: the one that was compared.
        licence: of its code.
        compare: the rows of the comparison, given the folder of the clone.
        needs: a package that its code cannot do without and vidgan does not have.
        note: where there is no comparison, the reason.
    """

    system: str
    repository: str
    commit: str
    licence: str
    compare: Callable[[Path], list[Row]] | None = None
    needs: str = ""
    note: str = ""

    def folder(self, code: Path) -> Path:
        """Where the clone lies: `owner-name`, because two owners share a name."""
        return code / self.repository.replace("/", "-")


# ------------------------------------------------------------------------------------------------
# Loading


class Nothing(types.ModuleType):
    """A module that has every name, and nothing behind it."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def stand_ins(*names: str, **members: object) -> dict[str, types.ModuleType]:
    """Empty modules, packages before what is in them; the last gets the members that are used."""
    modules: dict[str, types.ModuleType] = {name: Nothing(name) for name in names}
    for name, module in modules.items():
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(modules[parent], last, module)
    vars(modules[names[-1]]).update(members)
    return modules


@contextmanager
def imports_from(folder: Path, given: Mapping[str, types.ModuleType]) -> Iterator[None]:
    """A block in which top-level imports find the modules of a folder, and which forgets them.

    Args:
        folder: of the other's code.
        given: modules that its imports get in place of what they name.
    """
    before = dict(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        # A module of the same name that is loaded already would be found instead.
        for path in folder.iterdir():
            name = path.stem
            if (path.suffix == ".py" or path.is_dir()) and name in before:
                for known in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
                    del sys.modules[known]
        sys.modules.update(given)
        importlib.invalidate_caches()
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - set(before):
            source = getattr(sys.modules[name], "__file__", None) or ""
            if name in given or source.startswith(str(folder)):
                del sys.modules[name]
        sys.modules.update(before)


def translated(
    path: Path, replacements: Mapping[str, str], rewrite: Callable[[str], str] | None = None
) -> types.ModuleType:
    """A file run as a module, with words of its text replaced in memory.

    Args:
        path: the file, which stays as it is.
        replacements: old words to new ones.
        rewrite: applied to the text afterwards.

    Raises:
        ValueError: an old word is not there, so the file is another one.
    """
    text = path.read_text(encoding="utf-8")
    for old, new in replacements.items():
        if old not in text:
            raise ValueError(f"{path} holds no {old!r}: it is not at the commit of the table")
        text = text.replace(old, new)
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    exec(compile(rewrite(text) if rewrite else text, str(path), "exec"), vars(module))
    return module


# ------------------------------------------------------------------------------------------------
# Weights


def own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Parameters of a module itself, in the order of their definition."""
    return [p for p in module.parameters(recurse=False) if p.requires_grad]


def layers_with_parameters(*modules: nn.Module) -> list[nn.Module]:
    """All modules below, in the order of their definition, that hold parameters themselves."""
    return [m for module in modules for m in module.modules() if own_parameters(m)]


def share_weights(ours: Sequence[nn.Module], theirs: Sequence[nn.Module]) -> list[Pair]:
    """Give our layers the weights of theirs, one after the other; `(ours, theirs)` parameters.

    Every number is moved off its start first, so that no gain of 0 or 1 hides what it multiplies.
    Axes of length 1 do not count: a 1x1 convolution may be a linear layer over channels.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} layers of ours are not {len(theirs)} of theirs")
    pairs: list[Pair] = []
    for own, other in zip(ours, theirs, strict=True):
        mine, given = own_parameters(own), own_parameters(other)
        if [p.squeeze().shape for p in mine] != [p.squeeze().shape for p in given]:
            raise ValueError(f"{own} does not take the weights of {other}")
        pairs += zip(mine, given, strict=True)
    with torch.no_grad():
        for mine_tensor, other_tensor in pairs:
            other_tensor.add_(torch.randn_like(other_tensor), alpha=0.05)
            mine_tensor.copy_(other_tensor.view_as(mine_tensor))
    return pairs


# ------------------------------------------------------------------------------------------------
# Numbers


def difference(
    ours: Iterable[Tensor], theirs: Iterable[Tensor], least_share: float = LEAST_SHARE
) -> float:
    """The largest of |ours - theirs| over the largest |theirs| of the same tensor.

    Tensors that should vanish (the gradient of a bias before batch norm) hold rounding alone: none
    is measured by less than `least_share` of the largest number of all.
    """
    pairs = [
        (a.detach().squeeze(), b.detach().squeeze()) for a, b in zip(ours, theirs, strict=True)
    ]
    if any(a.shape != b.shape for a, b in pairs):
        raise ValueError(f"shapes differ: {[(tuple(a.shape), tuple(b.shape)) for a, b in pairs]}")
    largest = max(float(b.abs().max()) for _, b in pairs)
    if not largest > 0:
        raise ValueError("nothing to compare: all numbers are 0")
    return max(
        float((a - b).abs().max()) / max(float(b.abs().max()), least_share * largest)
        for a, b in pairs
    )


def gradients(loss: Tensor, parameters: Iterable[Tensor]) -> list[Tensor]:
    """Of a loss, which keeps its graph."""
    return list(torch.autograd.grad(loss, list(parameters), retain_graph=True))


class Moves:
    """How far parameters move between two moments, ours and theirs."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        self.starts = [theirs.detach().clone() for _, theirs in pairs]

    def difference(self) -> float:
        """Of the moves since the start, over the largest move of any parameter.

        Adam and RMSprop move all by about their rate, and rounding by far more than rounding where
        a gradient should vanish.
        """
        moved = [
            (ours.detach().view_as(start) - start, theirs.detach() - start)
            for (ours, theirs), start in zip(self.pairs, self.starts, strict=True)
        ]
        return difference((a for a, _ in moved), (b for _, b in moved), least_share=1.0)


# ------------------------------------------------------------------------------------------------
# Our side


def preset(name: str, *words: str) -> Config:
    """A preset with some settings changed, in float64 and without an average."""
    return load_config(name, [*words, "training.ema_beta=0", "data=none", "run=none"])


def training_step(config: Config, gan: GAN, seed: int = 0) -> TrainingStep:
    """A step of the settings on these networks; the averaged generator is the generator."""
    return TrainingStep(gan, gan.generator, make_loss(config.loss), config.training, seed)


def batch_of(real: Tensor, labels: Tensor | None = None) -> Batch:
    """A whole batch of float clips in [-1, 1]."""
    return Batch(real, labels, len(real), 0)
