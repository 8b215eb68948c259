"""Storage of converted weights with their provenance.

`vidgan weights convert` writes `NAME.safetensors` into this folder; networks read them from there
and nothing else. The header of a file says which published file it was made from.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vidgan.core.files import cache_folder, parse_json, refuse_special, write_file_atomically
from vidgan.errors import UserError

SCHEMA_VERSION = 1
SUFFIX = ".safetensors"
HEADER_KEY = "vidgan_weights"


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """The file that weights were converted from.

    Attributes:
        file: its name.
        bytes: its length; of a TensorFlow checkpoint that of the data file.
        sha256: of the same.
        git_blob: the id that git gives these bytes.
        layout: how its entries are named, see `layouts`.
        is_verified: whether its hash is the published one.
    """

    file: str
    bytes: int
    sha256: str
    git_blob: str
    layout: str
    is_verified: bool


@dataclass(frozen=True)
class StoredWeights:
    """Weights of one network.

    Attributes:
        name: of the catalogue.
        tensors: float32 by the names of `vidgan.extractors.networks`.
        source: where they came from.
        fingerprint: SHA-256 over names, shapes and values, the same whatever file held them.
    """

    name: str
    tensors: dict[str, Tensor]
    source: WeightSource
    fingerprint: str


def weights_folder() -> Path:
    """`$VIDGAN_WEIGHTS`, else `weights` in `$VIDGAN_CACHE`, else `~/.cache/vidgan/weights`."""
    named = os.environ.get("VIDGAN_WEIGHTS")
    if named:
        return Path(named)
    return cache_folder() / "weights"


def weights_path(name: str, folder: str | Path | None = None) -> Path:
    """Where the converted weights of this name lie, or would."""
    return Path(folder or weights_folder()) / f"{name}{SUFFIX}"


def weights_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the sorted names, shapes, types and values of tensors."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_weights(
    name: str, tensors: Mapping[str, Tensor], source: WeightSource, folder: str | Path | None = None
) -> Path:
    """Write converted weights; the path of the file is returned."""
    kept = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    header = {
        "schema": SCHEMA_VERSION,
        "name": name,
        "source": asdict(source),
        "fingerprint": weights_fingerprint(kept),
    }
    metadata = {HEADER_KEY: json.dumps(header, sort_keys=True)}
    path = weights_path(name, folder)
    write_file_atomically(path, lambda to: save_file(kept, to, metadata=metadata))
    return path


def is_converted(path: str | Path) -> bool:
    """Whether `save_weights` wrote a file, as against safetensors of another program."""
    if Path(path).suffix != SUFFIX or not Path(path).is_file():
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return HEADER_KEY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def load_weights(path: str | Path) -> StoredWeights:
    """Read what `save_weights` wrote.

    Raises:
        UserError: the file is missing, damaged or was not written by `save_weights`.
    """
    path = Path(path)
    refuse_special(path)
    if not path.exists():
        raise UserError(f"there is no file {path}; 'vidgan weights list' says how to get it")
    try:
        with safe_open(path, framework="pt") as file:
            header = parse_json((file.metadata() or {})[HEADER_KEY], "its header")
            names = list(file.keys())
            tensors = {key: file.get_tensor(key) for key in names}
        is_known = header["schema"] == SCHEMA_VERSION
        source = WeightSource(**header["source"])
        name, expected = header["name"], header["fingerprint"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, UserError) as error:
        raise UserError(
            f"{path} is not a file that 'vidgan weights convert' wrote, or it is damaged: convert "
            "the published file again"
        ) from error
    found = weights_fingerprint(tensors)
    if not is_known or found != expected:
        raise UserError(
            f"{path} was changed after it was converted (its values have the hash {found[:16]} and "
            f"its header says {expected[:16]}), or is of another version of vidgan; convert the "
            "published file again"
        )
    return StoredWeights(name, tensors, source, found)
