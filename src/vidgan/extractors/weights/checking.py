"""Checking weights against a network, entry by entry."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from vidgan.errors import UserError
from vidgan.extractors.networks.inception import Shapes


class WrongWeightsError(UserError):
    """An entry of a weight file does not fit; the classes below say how."""


class MissingEntryError(WrongWeightsError):
    """The file lacks an entry."""


class ExtraEntryError(WrongWeightsError):
    """The file holds an entry that the network does not have."""


class TransposedEntryError(WrongWeightsError):
    """An entry has the right sizes in another order."""


class WrongShapeError(WrongWeightsError):
    """An entry has other sizes."""


class WrongValuesError(WrongWeightsError):
    """An entry holds NaN, infinity, a negative variance or weight of a distance, or no floats."""


def own_words(error: Exception) -> str:
    """What a reader of ours found wrong with a file, in brackets; empty for errors of libraries,
    whose words are of their own insides."""
    return f" ({error})" if type(error) is ValueError else ""


def check_tensors(
    tensors: Mapping[str, Tensor],
    shapes: Shapes,
    where: str,
    entry_of: Callable[[str], str] = str,
) -> None:
    """Compare weights with the table of a network.

    Args:
        tensors: by the names of the network.
        shapes: the table.
        where: the file, for the sentence.
        entry_of: from the network's name of a weight to the file's, for the sentence.

    Raises:
        WrongWeightsError: the first fault found, one of its five kinds.
    """
    for name, shape in shapes.items():
        if name not in tensors:
            raise MissingEntryError(
                f"{where} has no entry {entry_of(name)}, which holds the {_size(shape)} numbers of "
                f"{name}; it is another network or an incomplete download"
            )
        _check_entry(name, entry_of(name), tensors[name], shape, where)
    for name, value in tensors.items():
        if name not in shapes:
            raise ExtraEntryError(
                f"{where} holds {name} ({_size(value.shape)}), which this network has no place "
                "for; it is another network"
            )


def _check_entry(name: str, entry: str, value: Tensor, shape: tuple[int, ...], where: str) -> None:
    found = tuple(value.shape)
    if found != shape and sorted(found) == sorted(shape):
        raise TransposedEntryError(
            f"{where} holds {entry} as {_size(found)}, which is {_size(shape)} transposed; it was "
            "written for another framework, so take the file that 'vidgan weights list' names"
        )
    if found != shape:
        hint = ""
        if len(found) == len(shape) and found[1:] == shape[1:] and name.startswith(("fc8", "logi")):
            hint = f"; it was trained for {found[0]} classes, not {shape[0]}"
        raise WrongShapeError(
            f"{where} holds {entry} as {_size(found)} where the network has {_size(shape)}{hint}; "
            "take the file that 'vidgan weights list' names"
        )
    if not value.dtype.is_floating_point or not bool(torch.isfinite(value).all()):
        raise WrongValuesError(
            f"{where} holds {entry} with values that are not finite floats; download it again"
        )
    if name.endswith("running_var") and bool((value < 0).any()):
        raise WrongValuesError(f"{where} holds {entry} with negative variances; download it again")
    if name.startswith("lin") and bool((value < 0).any()):
        raise WrongValuesError(
            f"{where} holds {entry} with negative weights, which make LPIPS no distance; "
            "download it again"
        )


def shapes_of(network: nn.Module) -> Shapes:
    """Table of a network's weights; counters of batch normalisation are left out."""
    state = network.state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if value.ndim}


def load_into(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Put weights into a network.

    Raises:
        WrongWeightsError: they do not fit.
    """
    check_tensors(tensors, shapes_of(network), where)
    network.load_state_dict(tensors, strict=False)


def _size(shape: tuple[int, ...] | torch.Size) -> str:
    return "x".join(map(str, shape)) or "a single number"
