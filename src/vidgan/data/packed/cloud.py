"""Packed clip sets in object stores (extra `cloud`), stored and read as litdata's chunks.

litdata is storage alone here: it fetches chunks, keeps them in a cache on disk and gives an item by
its number. Which clips are read, and in which order, is decided as for any other set, so a run may
move between a folder and an object store and see the same clips.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vidgan.core.files import cache_folder
from vidgan.errors import UserError

_URL = re.compile(r"(s3|gs|r2|azure)://|local:")
_ADVICE = "install it with: pip install 'vidgan[cloud]'"
_VALUE_KINDS = {"int", "bytes"}
"""Of litdata's ways to store a value, those of an item's number and its payload."""
_MANIFEST_NAME = "manifest.json"


def is_url(path: str | Path) -> bool:
    """Whether `path` is the address of a set in an object store.

    `local:FOLDER` is a folder that is read as if it were one, through the cache.
    """
    return bool(_URL.match(str(path)))


def litdata() -> Any:
    """The module `litdata`.

    Raises:
        UserError: it is not installed.
    """
    try:
        import litdata
    except ImportError as error:
        raise UserError(f"clip sets in object stores need litdata: {_ADVICE}") from error
    return litdata


def fetch_set(url: str) -> Path:
    """Fetch the manifest of the set at `url` into the cache and return the set's folder there.

    The folder's name tells the contents of the manifest, so a set that was built anew at the same
    address does not meet chunks of the old one.

    Raises:
        UserError: litdata is missing, or there is no set that can be read.
    """
    litdata()
    from litdata.streaming.downloader import get_downloader

    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        file = Path(name) / _MANIFEST_NAME
        try:
            address = f"{url.rstrip('/')}/{_MANIFEST_NAME}"
            get_downloader(url, name, []).download_file(address, str(file))
            digest = hashlib.blake2b(file.read_bytes(), digest_size=12).hexdigest()
        except Exception as error:
            # Every object store has errors of its own.
            raise UserError(
                f"there is no packed clip set that can be read at {url} ({told(error)}): check the"
                " address and the credentials of the object store"
            ) from error
        folder = cache / digest
        folder.mkdir(exist_ok=True)
        shutil.move(file, folder / _MANIFEST_NAME)
    return folder


def open_level(place: str, cache: Path | None) -> Any:
    """litdata's view of the chunks at `place`, a folder or an address; items by number.

    Args:
        place: Chunk folder of one level.
        cache: Where fetched chunks are kept; None reads a folder in place.
    """
    module = litdata()
    from litdata.streaming.serializers import _SERIALIZERS

    # The index of the chunks chooses how values are read, and one of the ways is pickle.
    refused = {name: _Refused() for name in _SERIALIZERS if name not in _VALUE_KINDS}
    cache_dir = None if cache is None else str(cache)
    return module.StreamingDataset(place, cache_dir=cache_dir, serializers=refused)


class _Refused:
    """Stands in for litdata's ways of reading values that no clip set has."""

    def setup(self, metadata: Any) -> None:
        """Called before the first value."""

    def deserialize(self, data: bytes) -> Any:
        """Refuse.

        Raises:
            UserError: always.
        """
        raise UserError(
            "the chunks say that they hold something else than numbers and bytes, such as pickled"
            " Python objects, which are never loaded: write the set with vidgan data export"
        )


def write_level(folder: Path, payloads: Iterable[bytes], items_per_chunk: int) -> None:
    """Write the payloads of a level as litdata's chunks, in their order.

    Args:
        folder: Chunk folder to make.
        payloads: The bytes of every item.
        items_per_chunk: Items in a chunk.
    """
    litdata()
    from litdata.streaming.writer import BinaryWriter

    folder.mkdir()
    writer = BinaryWriter(str(folder), chunk_size=items_per_chunk)
    for index, payload in enumerate(payloads):
        writer[index] = {"index": index, "payload": payload}
    writer.done()
    writer.merge(1)
    file = folder / "index.json"
    # Without the time: the same set gives the same bytes.
    table = json.loads(file.read_text(encoding="utf-8")) | {"updated_at": "0"}
    file.write_text(json.dumps(table, sort_keys=True), encoding="utf-8")


def upload_set(folder: Path, url: str) -> None:
    """Copy a finished set to an object store; its manifest goes last, and makes it a set.

    Raises:
        UserError: there is a set already, or the store refuses.
    """
    litdata()
    from litdata.streaming.fs_provider import _get_fs_provider

    url = url.rstrip("/")
    try:
        provider = _get_fs_provider(url)
        if provider.exists(f"{url}/{_MANIFEST_NAME}"):
            raise UserError(f"{url} holds a clip set already: choose another address")
        names = sorted(
            file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
        )
        for name in [*(name for name in names if name != _MANIFEST_NAME), _MANIFEST_NAME]:
            provider.upload_file(str(folder / name), f"{url}/{name}")
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{url} cannot be written ({told(error)}): check the address and the credentials, or"
            " write a folder and copy it with the tool of the object store"
        ) from error


def told(error: BaseException) -> str:
    """An error of a foreign package in a few words."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _cache() -> Path:
    return cache_folder() / "cloud"
