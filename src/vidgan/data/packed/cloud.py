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

from vidgan.core.files import cache_folder, read_json
from vidgan.errors import UserError

_URL = re.compile(r"(s3|gs|r2|azure)://|local:")
_ADVICE = "install it with: pip install 'vidgan[cloud]'"
_VALUE_KINDS = {"int", "bytes"}
"""Of litdata's ways to store a value, those of an item's number and its payload."""
_MANIFEST_NAME = "manifest.json"
_INDEX_NAME = "index.json"
_INDEX_BYTES = 1 << 26
"""Longest index of a level's chunks that is read: some 500,000 chunks."""
_CHUNK_NAME = re.compile(r"chunk-\d+-\d+\.bin", re.ASCII)


def is_url(path: str | Path) -> bool:
    """Whether `path` is the address of a set in an object store.

    `local:FOLDER` is a folder that is read as if it were one, through the cache.
    """
    return bool(_URL.match(str(path)))


def refuse_told_address(path: str | Path, where: str | Path) -> None:
    """Refuse an object-store address that comes from a file, not from the user.

    Args:
        path: place of a clip set.
        where: the file, for the message.

    Raises:
        UserError: it is an address.
    """
    if is_url(path):
        raise UserError(
            f"{where} names clips at the address {path}, which is contacted only if you name it"
            f" yourself: repeat the command with data={path}"
        )


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

    The folder's name is a hash of the manifest, so a set that was rebuilt at the same
    address does not meet chunks of the old one.

    Raises:
        UserError: litdata is missing, or there is no set that can be read.
    """
    cache = _cache()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as name:
        file = Path(name) / _MANIFEST_NAME
        try:
            _download(url, file)
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
        place: chunk folder of one level.
        cache: where fetched chunks are kept; None reads a folder in place.
    """
    module = litdata()
    from litdata.streaming.serializers import _SERIALIZERS

    # The index of the chunks chooses how values are read, and one of the ways is pickle.
    refused = {name: _Refused() for name in _SERIALIZERS if name not in _VALUE_KINDS}
    if cache is None:
        index = Path(place) / _INDEX_NAME
        _check_index(index, place)
        return module.StreamingDataset(place, serializers=refused)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as name:
        index = Path(name) / _INDEX_NAME
        _download(place, index)
        _check_index(index, place)
        # litdata copies this index and asks the store for none.
        return module.StreamingDataset(
            place, cache_dir=str(cache), serializers=refused, index_path=str(index)
        )


def _download(url: str, file: Path) -> None:
    """Fetch the file of this name from the folder at `url`."""
    litdata()
    from litdata.streaming.downloader import get_downloader

    address = f"{url.rstrip('/')}/{file.name}"
    get_downloader(url, str(file.parent), []).download_file(address, str(file))


def _check_index(file: Path, place: str) -> None:
    """Refuse an index that `write_level` does not write, before litdata reads it.

    litdata imports and calls what `data_spec` names, and follows the names of files to wherever
    they lead.

    Raises:
        OSError: there is none.
        UserError: a part of it is another one.
    """
    table = read_json(file, _INDEX_BYTES)
    config, chunks = table.get("config"), table.get("chunks")
    flaw = None
    if table.keys() != {"chunks", "config", "updated_at"} or table["updated_at"] != "0":
        flaw = "its fields"
    elif not isinstance(config, dict) or not _is_level_config(config):
        flaw = "its config"
    elif not isinstance(chunks, list) or not all(map(_is_chunk, chunks)):
        flaw = "the name of a chunk"
    else:
        home = file.parent.resolve()
        files = (home / chunk["filename"] for chunk in chunks)
        if any(path.resolve() != path or (path.exists() and not path.is_file()) for path in files):
            flaw = "a chunk that is a link or no file"
    if flaw:
        raise UserError(
            f"{place}/{file.name} was not written by vidgan ({flaw}), so it is not opened: write"
            " the set with vidgan data export"
        )


def _is_level_config(config: dict[str, Any]) -> bool:
    """Whether litdata wrote a `config` for a number and bytes, without compression and the like."""
    from litdata.utilities._pytree import tree_flatten, treespec_dumps

    # Sets of before held dictionaries.
    named = {"index": "int", "payload": "bytes"}
    forms: list[tuple[Any, Any]] = [((0, b""), "json"), (named, named)]
    for example, types in forms:
        expected = {
            "data_format": ["int", "bytes"],
            "data_spec": treespec_dumps(tree_flatten(example)[1]),
            "item_loader": "PyTreeLoader",
            "types": types,
        }
        # Whatever else there is, now or in a later litdata, is off.
        keys = {*config, *expected} - {"chunk_size", "chunk_bytes"}
        if all(config.get(key) == expected.get(key) for key in keys):
            return True
    return False


def _is_chunk(chunk: Any) -> bool:
    name = chunk.get("filename") if isinstance(chunk, dict) else None
    return isinstance(name, str) and _CHUNK_NAME.fullmatch(name) is not None


class _Refused:
    """Replaces litdata's readers of value types that no clip set has."""

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
        folder: chunk folder to make.
        payloads: the bytes of every item.
        items_per_chunk: items in a chunk.
    """
    litdata()
    from litdata.streaming.writer import BinaryWriter

    folder.mkdir()
    writer = BinaryWriter(str(folder), chunk_size=items_per_chunk)
    for index, payload in enumerate(payloads):
        # Dictionaries become Arrow tables where pyarrow is installed, and only there can be read.
        writer[index] = (index, payload)
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
    """A short description of another package's error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _cache() -> Path:
    return cache_folder() / "cloud"
