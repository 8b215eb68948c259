"""Verbs about the installation: `models` and `doctor`."""

import importlib.metadata
import inspect
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from vidgan.cli.common import in_words, print_json, print_lines, print_table
from vidgan.core.settings import dump_yaml, to_dict
from vidgan.errors import UserError

if TYPE_CHECKING:
    from vidgan.extractors.weights.catalogue import WeightFile


Name = Annotated[str | None, tyro.conf.arg(metavar="[MODEL]")]
Words = Annotated[tuple[str, ...], tyro.conf.arg(metavar="[WORD ...]")]

TELLING_VARIABLES = ("VIDGAN_", "OMP_", "MKL_", "ONEDNN_", "ATEN_", "CUDA_", "PYTORCH_", "TORCH_")
"""Beginnings of the environment variables that change what is computed or where files lie."""


def models(name: Name = None, /, *, conformance: bool = False, json: bool = False) -> None:
    """List the models that can be trained, or show one beside the figures of its source.

    Args:
        name: a model, whose settings are shown.
        conformance: its layers and counts beside the published ones.
        json: print JSON.
    """
    from vidgan.core.plugins import trust_typed
    from vidgan.models import list_models, model_config_class

    if name is None:
        found = [{"name": known, "about": _about(known)} for known in list_models()]
        if json:
            print_json(found)
        else:
            print_lines("\n".join(f"{model['name']:<12}{model['about']}" for model in found))
        return
    trust_typed(name)
    if conformance:
        print_sheet(name, json)
    else:
        settings = to_dict(model_config_class(name)())
        if json:
            print_json(settings)
        else:
            print_lines(inspect.getdoc(model_config_class(name)))
            print_lines("\nDefaults, to be changed with model.key=value:\n")
            print_lines(dump_yaml(settings), end="")


def presets(words: Words = (), /, *, json: bool = False) -> None:
    """List the presets of vidgan train, with the clips and the loss of each.

    Args:
        words: parts of names, such as gpu or mocogan; a preset is listed if its name has all.
        json: print JSON.
    """
    from vidgan.training.presets import list_presets, load_config

    found = []
    for name in list_presets():
        if all(word in name for word in words):
            config = load_config(name)
            size = f"{config.data.frames}x{config.data.resolution}x{config.data.resolution}"
            clips = config.training.total_clips
            found.append(
                {"name": name, "clip": size, "loss": config.loss.name, "total_clips": clips}
            )
    if not found:
        wanted = " and ".join(map(repr, words))
        raise UserError(f"no preset has {wanted} in its name; 'vidgan presets' lists them all")
    if json:
        print_json(found)
        return
    width = max(len(str(preset["name"])) for preset in found)
    for preset in found:
        print_lines(
            f"{preset['name']:<{width}}  {preset['clip']:<12} {preset['loss']:<16}"
            f" {preset['total_clips']:>12,} clips"
        )


def zoo(
    name: Annotated[str | None, tyro.conf.arg(metavar="[NAME]")] = None, /, *, json: bool = False
) -> None:
    """List the trained generators that are part of vidgan, or show how one was made.

    Args:
        name: a generator, as listed.
        json: print JSON.
    """
    from vidgan.sampling.zoo import PREFIX, list_zoo, zoo_entry

    entries = list_zoo() if name is None else [zoo_entry(name)]
    if json:
        print_json([to_dict(entry) for entry in entries])
    elif name is None:
        width = max(len(entry.name) for entry in entries)
        for entry in entries:
            print_lines(f"{PREFIX}{entry.name:<{width}}  {entry.about}")
        print_lines(f"\nvidgan sample {PREFIX}{entries[0].name} grid.mp4")
    else:
        facts = to_dict(entries[0])
        for score, value in facts.pop("scores").items():
            real = facts["real_scores"].get(score)
            facts[score] = f"{value:.4g}" + ("" if real is None else f" (real clips {real:.4g})")
        del facts["real_scores"]
        for fact, value in facts.items():
            print_lines(f"{fact.replace('_', ' '):<22}{value}")


def _about(name: str) -> str:
    from vidgan.models import model_config_class

    found = model_config_class(name)
    return found.ABOUT or _first_line(sys.modules[found.__module__])


def print_sheet(name: str, as_json: bool) -> None:
    """Print layers and totals of a model beside the published ones.

    Raises:
        UserError: the model has no sheet.
        RuntimeError: a total is not the recorded one.
    """
    from vidgan.models.conformance.sheet import conformance_sheet

    sheet = conformance_sheet(name)
    if as_json:
        print_json(asdict(sheet))
    else:
        rows = [
            {**asdict(row), "ours": row.num_parameters, "output": "x".join(map(str, row.shape))}
            for row in sheet.rows
        ]
        print_lines(f"{name} beside {sheet.source}\n")
        if rows:
            print_table(rows, ["network", "layer", "output", "ours", "printed", "remark"])
            print_lines()
        totals = [
            {"total": total.what, "ours": total.num_parameters, "recorded": total.recorded}
            for total in sheet.totals
        ]
        print_table(totals, ["total", "ours", "recorded"])
    wrong = [total.what for total in sheet.totals if total.num_parameters != total.recorded]
    if wrong:
        raise RuntimeError(f"{name} differs from its record: {', '.join(wrong)}")


RunName = Annotated[Path | None, tyro.conf.arg(metavar="[RUN]")]


def doctor(run: RunName = None, /, *, diff: Path | None = None, json: bool = False) -> None:
    """Show what this machine offers and what is missing, or look at a run folder.

    Of a run: settings, checkpoints (every checksum is compared), log, disk, device, and what to do
    next; exit code 2 if something is wrong.

    Args:
        run: run folder to be looked at.
        diff: with a second run folder behind it (--diff RUN_A RUN_B): by which step the two part,
            and what else is different.
        json: print a JSON document, the form to put into a report of a problem.
    """
    if diff is not None:
        if run is None:
            raise UserError("--diff compares two run folders: vidgan doctor --diff RUN_A RUN_B")
        show_difference(diff, run, json)
    elif run is not None:
        show_run(run, json)
    else:
        facts = examine()
        if json:
            print_json(facts)
        else:
            print_facts(facts)


def print_facts(facts: Mapping[str, Any]) -> None:
    """A line for each fact."""
    for name, value in facts.items():
        shown = ", ".join(map(in_words, value)) if isinstance(value, list) else in_words(value)
        print_lines(f"{name.replace('_', ' '):<22}{shown or 'none'}")


def show_run(run: Path, as_json: bool) -> None:
    """Print what a run folder is worth.

    Raises:
        UserError: something is wrong with it.
    """
    from vidgan.training.run_check import check_run

    found = check_run(run)
    if as_json:
        print_json(asdict(found))
    else:
        print_facts(found.facts)
        print_lines(f"{'next':<22}{found.next}")
    if found.problems:
        raise UserError("; ".join(found.problems))


def show_difference(first: Path, second: Path, as_json: bool) -> None:
    """Print where two runs part."""
    from vidgan.training.run_check import compare_runs

    found = compare_runs(first, second)
    if as_json:
        print_json(asdict(found))
        return
    for title, lines in (("settings", found.settings), ("environment", found.environment)):
        print_lines(f"{title} that differ: {'; '.join(lines) or 'none'}")
    if found.parts_at is None and found.same_until is None:
        print_lines("training: no line for the same steps and no checkpoint stands in both")
    elif found.parts_at is None:
        print_lines(
            f"training: the same to the last bit up to step {found.same_until}, the last that both"
            " have"
        )
    else:
        before = "" if found.same_until is None else f" after step {found.same_until},"
        print_lines(f"training: they part{before} at step {found.parts_at} at the latest:")
        print_lines("\n".join(f"  {line}" for line in found.numbers))
    for step, verdict in found.checkpoints.items():
        print_lines(f"checkpoint step-{step}: {verdict}")
    if found.damaged:
        raise UserError(f"not all could be compared: {'; '.join(found.damaged)}")


def examine() -> dict[str, Any]:
    """Versions, devices, codecs and free disk space, as plain values."""
    import av
    import numpy
    import torch

    from vidgan.core.code_version import code_version
    from vidgan.core.machine import describe_processor, known_faults

    codecs = av.codecs_available
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    problems = []
    if "libx264" not in codecs:
        problems.append("no H.264 encoder: MP4 files cannot be written")
    return {
        "vidgan": code_version(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "numpy": numpy.__version__,
        "pyav": av.__version__,
        "devices": [*devices, "cpu"],
        "cpu_cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        **{f"cpu_{name}": value for name, value in describe_processor().items()},
        "torch_threads": torch.get_num_threads(),
        "bf16_on_gpu": torch.cuda.is_bf16_supported() if devices else None,
        "h264_encoder": "libx264" in codecs,
        "h264_decoder": "h264" in codecs,
        "free_disk_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        "packages": installed_packages(),
        "variables": [
            f"{name}={value}"
            for name, value in sorted(os.environ.items())
            if name.startswith(TELLING_VARIABLES)
        ],
        "executable": sys.executable,
        "known_faults": known_faults(),
        "problems": problems,
    }


def installed_packages() -> list[str]:
    """What vidgan and its extras ask for and what of it is there, such as `av 18.1.0`."""
    try:
        wanted = importlib.metadata.requires("vidgan") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    # A marker `extra == "dev"` stands behind tools of the developers.
    names = {
        re.split(r"[^\w.-]", line)[0] for line in wanted if "dev" not in line.partition(";")[2]
    }
    found = []
    for name in sorted(names, key=str.lower):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _first_line(documented: object) -> str:
    return (inspect.getdoc(documented) or "").partition("\n")[0]


# ------------------------------------------------------------------------------------------------
# Verbs about published weight files: `weights list`, `weights verify` and `weights convert`

File = Annotated[Path, tyro.conf.arg(metavar="FILE")]


def list_weights(*, json: bool = False) -> None:
    """List the published weights: where to get each file, its terms, and which are converted.

    Nothing is downloaded; get a file yourself and pass it to vidgan weights convert.

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
    from vidgan.extractors.extractor import EXTRACTORS, MEAN_WEIGHTS
    from vidgan.extractors.lpips import WEIGHTS
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
    """Check which published weights a file holds: hashes, names, shapes and values of every entry.

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
    """What is known about a file, and objections to it."""
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
        verdict = "not verified: no hash has been published; names, shapes and values are right"
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
    unverified: bool = False,
    folder: Path | None = None,
    json: bool = False,
) -> None:
    """Check a published weight file and keep its weights for the extractors, as safetensors.

    Nothing in the file is executed.

    Args:
        file: as it was downloaded; of a TensorFlow checkpoint its folder or one of its files.
        name: which weights it holds, where the file does not say.
        unverified: accept other bytes than the published ones; records then say so.
        folder: where to keep it; VIDGAN_WEIGHTS or the cache folder by default.
        json: print a JSON document.
    """
    from vidgan.extractors.weights.converting import convert as convert_file

    path, source = convert_file(file, name=name, unverified=unverified, folder=folder)
    state = "verified" if source.is_verified else "not verified"
    if json:
        print_json({"out": str(path), **asdict(source)})
    else:
        print_lines(f"{source.file} ({state}) is kept in {path}")
