"""Trained generators that are part of the package: `zoo:NAME` wherever a generator is asked for.

`index.json` lists them. Each is one safetensors file in half precision, of at most 4 MB, which
`python benchmarks/zoo.py` made from a run and then evaluated. They are small networks, trained for
minutes on rendered clips: something to look at before the first run of one's own.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

from vidgan.core.files import read_json, sha256_of
from vidgan.core.settings import Range, closest, from_dict
from vidgan.errors import UserError

PREFIX = "zoo:"
FOLDER = Path(__file__).parent
INDEX = "index.json"
MAX_BYTES = 4_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZooEntry:
    """What the package tells about one of its generators.

    Attributes:
        name: behind `zoo:`.
        about: what it shows, in a sentence.
        data: the command that renders the clips it was trained on.
        training: the command that trained it.
        machine: the processor it was trained on.
        cpu_seconds: of the training.
        licence: of the weights.
        sha256: of the file.
        pixels: of one clip (`outputs.diagonal_pixels`); code and weights that part change them.
        protocol: of the evaluation.
        scores: of the generator, by metric.
        real_scores: of held-out real clips in the same evaluation.
    """

    name: str
    about: str
    data: str
    training: str
    machine: str
    cpu_seconds: Annotated[float, Range(0)]
    licence: str
    sha256: str
    pixels: tuple[int, ...] = ()
    protocol: str = ""
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    real_scores: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The name of the file beside the index."""
        return f"{self.name}.safetensors"


def list_zoo(folder: Path = FOLDER) -> list[ZooEntry]:
    """The generators that are part of the package, in the order of the index."""
    file = folder / INDEX
    return [from_dict(ZooEntry, entry, str(file)) for entry in read_json(file)["generators"]]


def zoo_entry(name: str, folder: Path = FOLDER) -> ZooEntry:
    """The entry of a name, with or without `zoo:`.

    Raises:
        UserError: there is none of this name.
    """
    entries = {entry.name: entry for entry in list_zoo(folder)}
    name = name.removeprefix(PREFIX)
    if name not in entries:
        guess = closest(name, entries)
        hint = f"; did you mean {PREFIX}{guess}?" if guess else ""
        known = ", ".join(PREFIX + entry for entry in entries)
        raise UserError(f"there is no generator {PREFIX + name!r}; there are {known}{hint}")
    return entries[name]


def zoo_file(name: str, folder: Path = FOLDER) -> Path:
    """The generator file of a name, compared with its checksum.

    Raises:
        UserError: there is none of this name, or the file is damaged.
    """
    entry = zoo_entry(name, folder)
    path = folder / entry.file_name
    if not path.is_file() or sha256_of(path) != entry.sha256:
        raise UserError(
            f"{path} is missing or does not match its checksum: install vidgan again, or take"
            " another generator"
        )
    return path
