"""From a published file to the weights of a network, checked on the way."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vidgan.errors import UserError
from vidgan.extractors.weights.catalogue import CATALOGUE, WeightFile, candidates, find_by_hash
from vidgan.extractors.weights.checking import WrongWeightsError, check_tensors
from vidgan.extractors.weights.reading import FileIdentity, identify, read_tensors
from vidgan.extractors.weights.store import (
    WeightSource,
    is_converted,
    load_weights,
    save_weights,
    weights_path,
)
from vidgan.extractors.weights.tensor_table import (
    WeightLayout,
    find_layouts,
    num_classes_of,
    shapes_for,
)


class HashMismatchError(UserError):
    """A file has the name of a published one but other bytes."""


class AmbiguousFileError(UserError):
    """The contents of a file do not identify which of several published ones it is."""


@dataclass(frozen=True)
class Examined:
    """A weight file that was read and fits its network.

    Attributes:
        identity: name, length, hashes.
        layout: how its entries are named.
        classes: rows of its class layer.
        tensors: by the names of the network.
        published: the catalogue's file with the same bytes, or None.
    """

    identity: FileIdentity
    layout: WeightLayout
    classes: int
    tensors: dict[str, Tensor]
    published: WeightFile | None

    @property
    def num_weights(self) -> int:
        """Numbers in all tensors."""
        return sum(value.numel() for value in self.tensors.values())


def examine(path: str | Path, width: float = 1.0) -> Examined:
    """Read a weight file and compare every entry with its network's table.

    Args:
        path: a file; of a TensorFlow checkpoint one of its files, their prefix or their folder.
        width: scale of the network's channels; published files have 1.

    Raises:
        UserError: unreadable, unsafe, or not the weights of a known network.
    """
    identity = identify(path)
    entries = read_tensors(path)
    published = find_by_hash(identity.bytes, identity.sha256, identity.git_blob)
    wrong = []
    for layout in find_layouts(entries, identity.file):
        try:
            classes, tensors = _fitted(layout, entries, identity.file, width)
        except WrongWeightsError as error:
            wrong.append(error)
        else:
            return Examined(identity, layout, classes, tensors, published)
    raise wrong[0]


def _fitted(
    layout: WeightLayout, entries: Mapping[str, Tensor], file: str, width: float
) -> tuple[int, dict[str, Tensor]]:
    """Rows of the class layer, and tensors by the names of the network, which they fit."""
    tensors = layout.convert(entries)
    classes = num_classes_of(layout, tensors)
    known = {f.classes for f in CATALOGUE if f.layout == layout.name}
    expected = classes if classes in known else min(known)
    check_tensors(tensors, shapes_for(layout.network, expected, width), file, layout.entry_of)
    return classes, tensors


def fitting(found: Examined, name: str | None = None) -> list[WeightFile]:
    """Published files that a file may be, by names of entries, classes and its own name.

    Args:
        found: the file.
        name: name of weights that the user says it holds.

    Raises:
        UserError: it does not hold the weights of this name.
    """
    if found.published is not None:
        if name not in (None, found.published.weights):
            raise UserError(
                f"{found.identity.file} is {found.published.file} to the last byte, which holds "
                f"{found.published.weights} and not {name}"
            )
        return [found.published]
    files = candidates(found.layout.name, found.classes)
    if name is not None:
        files = [file for file in files if file.weights == name]
        if not files:
            raise UserError(
                f"{found.identity.file} does not fit {name}: its entries are named as in "
                f"{found.layout.name}, with {found.classes} classes; leave --name away"
            )
    return [file for file in files if file.file == found.identity.file] or files


def choose(found: Examined, name: str | None = None, unverified: bool = False) -> WeightFile:
    """Which published file this one is, or stands for.

    Args:
        found, name: as in `fitting`.
        unverified: accept other bytes than the published ones.

    Raises:
        HashMismatchError: the hash of the file it should be is known and is another.
        AmbiguousFileError: several fit; `name` has to decide.
        UserError: as in `fitting`.
    """
    files = fitting(found, name)
    if len({file.weights for file in files}) > 1:
        options = ", ".join(dict.fromkeys(file.weights for file in files))
        raise AmbiguousFileError(
            f"{found.identity.file} has the shape of {options} and the bytes of no file that is "
            "known; say which it is with --name, and --unverified to take it as it is"
        )
    if files[0].has_hash and found.published is None and not unverified:
        raise HashMismatchError(mismatch(found, files[0]))
    return files[0]


def mismatch(found: Examined, expected: WeightFile) -> str:
    """The message about a file that differs from the published bytes."""
    identity = found.identity
    return (
        f"the bytes of {identity.file} are not the published ones of {expected.file} (SHA-256 "
        f"{identity.sha256[:16]}, git blob {identity.git_blob[:16]}); download it again from "
        f"{expected.source}, or accept it with 'vidgan weights convert --unverified'"
    )


def convert(
    path: str | Path,
    *,
    name: str | None = None,
    unverified: bool = False,
    folder: str | Path | None = None,
    width: float = 1.0,
) -> tuple[Path, WeightSource]:
    """Convert a published file into the folder of weights.

    Args:
        path, width: as in `examine`.
        name, unverified: as in `choose`.
        folder: where to; None: `store.weights_folder()`.

    Returns:
        The file written and what its header says of the source.

    Raises:
        UserError: as in `examine` and `choose`.
    """
    if is_converted(path):
        name = load_weights(path).name
        raise UserError(
            f"{path} holds {name} and is converted already; copy it to {weights_path(name, folder)}"
        )
    found = examine(path, width)
    chosen = choose(found, name, unverified)
    source = WeightSource(
        file=found.identity.file,
        bytes=found.identity.bytes,
        sha256=found.identity.sha256,
        git_blob=found.identity.git_blob,
        layout=found.layout.name,
        is_verified=found.published is not None,
    )
    return save_weights(chosen.weights, found.tensors, source, folder), source


def weights_names() -> Mapping[str, list[WeightFile]]:
    """The files of every name of weights, best choice first."""
    names: dict[str, list[WeightFile]] = {}
    for file in CATALOGUE:
        names.setdefault(file.weights, []).append(file)
    return names
