"""A folder of films to a folder of aligned face clips, resumable film by film.

Every film leaves one record, written when its clips are complete; a restart skips films with a
record and clears away what an interrupted film left. Films do not influence each other, so the
result is the same whatever the number of workers.
"""

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vidgan
from vidgan.config_io import differences, to_dict
from vidgan.data.faces.config import FacesConfig
from vidgan.data.faces.film import FilmJob, failed_record, process_film
from vidgan.data.faces.landmarks import make_landmarker
from vidgan.data.faces.outcome import FacesReport, make_report
from vidgan.data.faces.shots import cut_detector
from vidgan.data.opencv import opencv
from vidgan.data.pool import Crashed, map_in_order
from vidgan.data.settings import DataConfig
from vidgan.data.sources import scan_sources
from vidgan.errors import UserError
from vidgan.files import TEMPORARY_MARK, write_json_atomically
from vidgan.randomness import derive_seed

Progress = Callable[[int, int, str], None]
"""Called with (done, total, what) after every film."""

FORMAT = "vidgan-faces"
SCHEMA = 1
TIME_LIMIT_S = 3600.0
"""Longest time for one film; a trailer takes minutes."""

_PLAN = "faces.json"
_CLIPS = "clips"
_SPLITS = ("train", "heldout")
_HEAD_BYTES = 1 << 20


@dataclass(frozen=True)
class _Film:
    name: str
    key: str
    split: str
    fingerprint: str


def build_faces(
    films: str | Path,
    out: str | Path,
    config: FacesConfig | None = None,
    *,
    workers: int | None = None,
    time_limit_s: float = TIME_LIMIT_S,
    retry: bool = False,
    progress: Progress | None = None,
) -> FacesReport:
    """Make aligned face clips out of the films of a folder.

    The clips appear as `out/clips/train/*.mp4` and `out/clips/heldout/*.mp4`, which `build_clips`
    reads; all clips of a film are on the same side. `out/films` holds a record and `out/sheets` a
    contact sheet of every film. A call that was interrupted continues; films added later are
    worked on, films that changed are done anew.

    Args:
        films: Folder of video files and of folders of numbered images, at any depth.
        out: Folder to make or to continue.
        config: Settings; None takes the defaults.
        workers: Processes; None takes one a core. 0 works in this process, without protection
            against films that crash or hang.
        time_limit_s: Longest time for one film.
        retry: Try films again that failed before.
        progress: Called with (done, total, what).

    Raises:
        UserError: no films, a foreign `out`, other settings than those `out` was begun with,
            another process at work there, or a package or model that is missing.
    """
    config = config or FacesConfig()
    out = Path(out)
    opencv()
    make_landmarker(config.landmarks)
    cut_detector(config.shots)
    root = Path(films)
    found = _find_films(root, config)
    with _begun(out, config):
        records = {film.key: _finished(out, film, retry) for film in found}
        todo = [film for film in found if records[film.key] is None]
        _clear_leftovers(out, {key for key, record in records.items() if record is None})
        jobs = [_job(root, out, film, config) for film in todo]
        num_workers = _num_workers(len(jobs)) if workers is None else workers
        results = map_in_order(process_film, jobs, num_workers, time_limit_s)
        for done, (film, result) in enumerate(zip(todo, results, strict=True), 1):
            if isinstance(result, Crashed):
                _clear_leftovers(out, {film.key})
                result = failed_record(film.name, "failed", result.reason)
            record = result | {"split": film.split, "fingerprint": film.fingerprint}
            write_json_atomically(_record_file(out, film.key), record)
            if progress:
                progress(len(found) - len(todo) + done, len(found), "making face clips")
        return read_report(out)


def read_report(out: str | Path) -> FacesReport:
    """The report on everything that `build_faces` has done in a folder so far.

    Raises:
        UserError: `out` holds no face clips.
    """
    out = Path(out)
    _read_plan(out)
    records = [
        {"key": file.stem, **_read_json(file)} for file in sorted((out / "films").glob("*.json"))
    ]
    return make_report(out, records)


def film_key(name: str) -> str:
    """A file name for the outputs of a film: readable, portable and its own.

    Example:
        >>> film_key("2019/Great film!.mp4")
        'Great-film-9c2b3d4e'
    """
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(name).stem).strip("-")[:40] or "film"
    return f"{stem}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def _find_films(root: Path, config: FacesConfig) -> list[_Film]:
    # Class folders mean nothing here: what lies outside of them is a film like any other.
    scan = scan_sources(root, DataConfig(splits="off"))
    names = sorted([*(s.name for s in scan.sources), *(name for name, _ in scan.dropped)])
    draws = {name: derive_seed("faces heldout", name) / 2**63 for name in names}
    # Somebody must be trained on, however few films there are.
    always_train = max(names, key=lambda name: draws[name])

    def split(name: str) -> str:
        held_out = draws[name] < config.clips.heldout_fraction and name != always_train
        return "heldout" if held_out else "train"

    return [_Film(name, film_key(name), split(name), _fingerprint(root / name)) for name in names]


def _fingerprint(path: Path) -> str:
    """Tells a changed film without reading all of it: size, beginning and end."""
    digest = hashlib.blake2b(digest_size=16)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in (f for f in files if f.is_file()):
        size = file.stat().st_size
        digest.update(f"{file.name} {size} ".encode())
        if path.is_dir():
            continue
        with file.open("rb") as handle:
            digest.update(handle.read(_HEAD_BYTES))
            handle.seek(max(0, size - _HEAD_BYTES))
            digest.update(handle.read(_HEAD_BYTES))
    return digest.hexdigest()


@contextmanager
def _begun(out: Path, config: FacesConfig) -> Iterator[None]:
    """Hold `out` for this process alone, and make sure that it is ours with these settings."""
    plan = {"format": FORMAT, "schema": SCHEMA, "builder": vidgan.__version__}
    plan |= {"settings": to_dict(config)}
    if out.exists() and not (out / _PLAN).is_file() and any(_visible(out)):
        raise UserError(f"{out} holds something else already: choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    handle = os.open(out / f"{TEMPORARY_MARK}lock", os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is making face clips in {out}: wait for it or choose another"
                " folder"
            ) from None
        if (out / _PLAN).is_file():
            _refuse_other_settings(out, to_dict(config))
        else:
            write_json_atomically(out / _PLAN, plan)
        for split in _SPLITS:
            (out / _CLIPS / split).mkdir(parents=True, exist_ok=True)
        yield
    finally:
        os.close(handle)


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _read_plan(out: Path) -> dict[str, Any]:
    plan = _read_json(out / _PLAN) if (out / _PLAN).is_file() else {}
    if plan.get("format") != FORMAT:
        raise UserError(f"{out} holds no face clips: make some with 'vidgan data faces'")
    if plan["schema"] > SCHEMA:
        raise UserError(
            f"{out} was made by a newer vidgan (schema {plan['schema']}, this one knows {SCHEMA}):"
            " update vidgan"
        )
    return plan


def _refuse_other_settings(out: Path, settings: dict[str, Any]) -> None:
    changed = differences(_read_plan(out)["settings"], settings)
    if changed:
        told = ", ".join(f"{item.key}={item.first} and not {item.second}" for item in changed)
        raise UserError(
            f"{out} was begun with {told}: leave the settings as they were, or choose another"
            " folder"
        )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{file} is damaged ({error}): delete it, and the film is done again"
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"{file} is damaged: delete it, and the film is done again")
    return value


def _record_file(out: Path, key: str) -> Path:
    return out / "films" / f"{key}.json"


def _finished(out: Path, film: _Film, retry: bool) -> dict[str, Any] | None:
    file = _record_file(out, film.key)
    if not file.is_file():
        return None
    record = _read_json(file)
    changed = record.get("fingerprint") != film.fingerprint
    return None if changed or (retry and record["outcome"] == "failed") else record


def _clear_leftovers(out: Path, keys: set[str]) -> None:
    """Remove what films without a record left behind: whole clips and half-written files."""
    for split in _SPLITS:
        for file in (out / _CLIPS / split).iterdir():
            match = re.fullmatch(r"(.+)_s\d+_c\d+\.mp4", file.name)
            if file.name.startswith(TEMPORARY_MARK) or (match and match[1] in keys):
                file.unlink()
    for key in keys:
        _record_file(out, key).unlink(missing_ok=True)
        (out / "sheets" / f"{key}.png").unlink(missing_ok=True)


def _job(root: Path, out: Path, film: _Film, config: FacesConfig) -> FilmJob:
    return FilmJob(
        path=str(root / film.name),
        name=film.name,
        key=film.key,
        folder=str(out / _CLIPS / film.split),
        sheet=str(out / "sheets" / f"{film.key}.png"),
        config=config,
    )


def _num_workers(num_films: int) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # At least one process of its own: a film that crashes its decoder must not end the build.
    return max(1, min(cores or 1, num_films))
