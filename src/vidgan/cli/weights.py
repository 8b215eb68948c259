"""Verbs about published weight files: `weights list`, `weights verify` and `weights convert`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vidgan.cli.common import print_json, print_lines
from vidgan.errors import UserError

if TYPE_CHECKING:
    from vidgan.extractors.weights.catalogue import WeightFile

File = Annotated[Path, tyro.conf.arg(metavar="FILE")]


def list_weights(*, json: bool = False) -> None:
    """Name the published weights, where to get each file, its terms, and which are converted.

    Nothing is downloaded; get a file yourself and hand it to vidgan weights convert.

    Args:
        json: print a JSON document.
    """
    from vidgan.extractors.weights.store import weights_folder

    folder = weights_folder()
    rows = _rows(folder)
    if json:
        print_json({"folder": str(folder), "weights": rows})
        return
    print_lines(f"Converted weights are kept in {folder} (set VIDGAN_WEIGHTS to change that).")
    for row in rows:
        state = "converted" if row["is_converted"] else "missing"
        used = ", ".join(row["extractors"]) or "no extractor"
        print_lines(f"\n{row['name']}: {state}; read by {used}")
        for file in row["files"]:
            print_lines(f"  {file['file']}\n    {file['remark']}")
            print_lines(f"    from: {file['source']}\n    terms: {file['terms']}")
            print_lines(f"    known: {file['known']}")


def _rows(folder: Path) -> list[dict[str, Any]]:
    from vidgan.extractors.extractor import MEAN_WEIGHTS
    from vidgan.extractors.lpips import WEIGHTS
    from vidgan.extractors.specs import EXTRACTORS
    from vidgan.extractors.weights.converting import weights_names
    from vidgan.extractors.weights.store import weights_path

    rows = []
    for name, files in weights_names().items():
        used = [
            spec.name
            for spec in EXTRACTORS.values()
            if spec.weights == name
            or (name == MEAN_WEIGHTS and spec.preprocessing and spec.preprocessing.mean_corner)
        ]
        used += [f"lpips={backbone}" for backbone, parts in WEIGHTS.items() if name in parts]
        rows.append(
            {
                "name": name,
                "is_converted": weights_path(name, folder).exists(),
                "extractors": used,
                "files": [_file_row(file) for file in files],
            }
        )
    return rows


def _file_row(file: "WeightFile") -> dict[str, Any]:
    known = [f"{file.bytes:,} bytes"] if file.bytes else []
    known += [f"SHA-256 {_shortened(file.sha256, 64)}"] if file.sha256 else []
    known += [f"git blob {_shortened(file.git_blob, 40)}"] if file.git_blob else []
    return {
        "file": file.file,
        "remark": file.remark,
        "source": file.source,
        "terms": file.terms,
        "known": ", ".join(known) or "no hash is published",
    }


def _shortened(digest: str, full: int) -> str:
    return digest if len(digest) == full else f"{digest}..."


def verify(file: File, /, *, json: bool = False) -> None:
    """Say which published weights a file holds: hashes, names, shapes and values of every entry.

    The exit code is 2 if the file is damaged, or if its hash is published and is another.

    Args:
        file: a published file as it was downloaded (of a TensorFlow checkpoint its folder or one of
            its files), or one that vidgan weights convert wrote.
        json: print a JSON document.
    """
    from vidgan.extractors.weights.store import is_converted

    facts, complaint = _converted_facts(file) if is_converted(file) else _published_facts(file)
    if json:
        print_json(facts)
    else:
        for key, value in facts.items():
            shown = f"{value:,}" if isinstance(value, int) else value
            print_lines(f"{key.replace('_', ' '):<13}{shown}")
    if complaint:
        raise UserError(complaint)


def _published_facts(path: Path) -> tuple[dict[str, Any], str]:
    """What is known of a file, and what speaks against it."""
    from vidgan.extractors.weights.converting import examine, fitting, mismatch

    found = examine(path)
    files = fitting(found)
    names = list(dict.fromkeys(file.weights for file in files))
    complaint = ""
    if found.published:
        verdict = f"verified: {found.published.file} as published"
    elif len(names) > 1:
        verdict = "not verified: the bytes of no published file; names, shapes and values are right"
    elif files[0].has_hash:
        verdict = f"not verified: these are not the published bytes of {files[0].file}"
        complaint = mismatch(found, files[0])
    else:
        verdict = "not verified: nobody has published a hash; names, shapes and values are right"
    return {
        "file": found.identity.file,
        "bytes": found.identity.bytes,
        "sha256": found.identity.sha256,
        "git_blob": found.identity.git_blob,
        "layout": f"{found.layout.name}, network {found.layout.network}",
        "numbers": found.num_weights,
        "weights": " or ".join(names),
        "verdict": verdict,
    }, complaint


def _converted_facts(path: Path) -> tuple[dict[str, Any], str]:
    from vidgan.extractors.weights.store import load_weights

    stored = load_weights(path)
    checked = "verified" if stored.source.is_verified else "not verified"
    return {
        "file": path.name,
        "weights": stored.name,
        "fingerprint": stored.fingerprint,
        "numbers": sum(value.numel() for value in stored.tensors.values()),
        "made_from": f"{stored.source.file}, {checked}, SHA-256 {stored.source.sha256}",
        "verdict": "unchanged since it was converted",
    }, ""


def convert(
    file: File,
    /,
    *,
    name: str | None = None,
    trust: bool = False,
    folder: Path | None = None,
) -> None:
    """Check a published weight file and keep its weights for the extractors, as safetensors.

    Nothing in the file is executed.

    Args:
        file: as it was downloaded; of a TensorFlow checkpoint its folder or one of its files.
        name: which weights it holds, where the file does not say.
        trust: accept other bytes than the published ones; records then say that it is not verified.
        folder: where to keep it; VIDGAN_WEIGHTS or the cache folder by default.
    """
    from vidgan.extractors.weights.converting import convert as convert_file

    path, source = convert_file(file, name=name, trust=trust, folder=folder)
    state = "verified" if source.is_verified else "not verified"
    print_lines(f"{source.file} ({state}) is kept in {path}")
