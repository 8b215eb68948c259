"""ONNX Runtime Web, which runs a generator in a browser: fetched once, on request, into the cache.

One version is known, by its hash. npm fetches it from wherever it is set up to, or a file that was
fetched elsewhere is taken.
"""

import base64
import gzip
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vidgan.core.files import cache_folder, check_place, read_bytes, write_file_atomically
from vidgan.errors import UserError

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
INTEGRITY = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
"""SHA-512 of the package's archive, in base64, as the registry signs it."""
LARGEST_ARCHIVE = 64 << 20

MEMBERS = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": (
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}
"""What a page needs of it, with SHA-256."""

FETCH_SECONDS = 600


class WebRuntime(NamedTuple):
    """The runtime as gzip streams: the loader in JavaScript and the WebAssembly binary."""

    library: bytes
    binary: bytes


def runtime_folder() -> Path:
    """Where the cache keeps the runtime."""
    return cache_folder() / "onnxruntime-web" / VERSION


def read_runtime() -> WebRuntime:
    """The runtime in the cache.

    Raises:
        UserError: it is not there, or not what was written.
    """
    library, binary = (_read_member(name) for name in MEMBERS)
    return WebRuntime(library, binary)


def _read_member(name: str) -> bytes:
    path = runtime_folder() / f"{name}.gz"
    try:
        content = read_bytes(path, LARGEST_ARCHIVE)
    except OSError as error:
        raise UserError(
            f"a live page needs ONNX Runtime Web {VERSION}, which is not in the cache: fetch it "
            f"once with 'vidgan web-runtime'"
        ) from error
    try:
        is_whole = hashlib.sha256(gzip.decompress(content)).hexdigest() == MEMBERS[name]
    except (OSError, EOFError, ValueError):
        is_whole = False
    if not is_whole:
        raise UserError(f"{path} is damaged: fetch it again with 'vidgan web-runtime'")
    return content


def fetch_runtime(archive: Path | None = None) -> Path:
    """Put the runtime into the cache and return its folder.

    Args:
        archive: the package's archive; without it npm fetches it.

    Raises:
        UserError: no npm, no network, or an archive that is another one.
    """
    check_place(runtime_folder())
    with tempfile.TemporaryDirectory() as folder:
        path = archive if archive is not None else _fetch(Path(folder))
        try:
            content = read_bytes(path, LARGEST_ARCHIVE)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        if hashlib.sha512(content).digest() != base64.b64decode(INTEGRITY):
            raise UserError(f"{path} is not the archive of {PACKAGE}: its SHA-512 is another one")
        with tarfile.open(path) as members:
            for name in MEMBERS:
                file = members.extractfile(f"package/dist/{name}")
                assert file is not None
                packed = gzip.compress(file.read(), mtime=0)
                write_file_atomically(runtime_folder() / f"{name}.gz", partial(_write, packed))
    return runtime_folder()


def _write(content: bytes, path: Path) -> None:
    path.write_bytes(content)


def _fetch(folder: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"npm, which fetches {PACKAGE}, is not installed: install it (it comes with Node.js), "
            f"or fetch the package's archive elsewhere and name the file"
        )
    words = [npm, "pack", PACKAGE, "--pack-destination", str(folder), "--ignore-scripts"]
    try:
        done = subprocess.run(
            words, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"npm did not fetch {PACKAGE} within {FETCH_SECONDS} s: try again, or fetch the "
            f"package's archive elsewhere and name the file"
        ) from error
    found = list(folder.glob("*.tgz"))
    if done.returncode or not found:
        reason = next(
            (line for line in done.stderr.splitlines() if line.strip()), "no reason given"
        )
        raise UserError(f"npm could not fetch {PACKAGE}: {reason}")
    return found[0]
