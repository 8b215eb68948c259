"""A folder of films to a folder of aligned face clips, resumable film by film."""

import hashlib
import re
from pathlib import Path

from vidgan.core.files import TEMPORARY_MARK
from vidgan.core.randomness import derive_seed
from vidgan.core.settings import to_dict
from vidgan.data.build.engine import Engine
from vidgan.films.faces.config import FacesConfig
from vidgan.films.faces.film import FilmJob, process_film
from vidgan.films.faces.landmarks import make_landmarker
from vidgan.films.faces.outcome import FacesReport, make_report
from vidgan.films.faces.shots import cut_detector
from vidgan.films.item_work import (
    Progress,
    Work,
    WorkFolder,
    WorkItem,
    fingerprint,
    video_names,
    work_through,
)
from vidgan.films.opencv import opencv

SCHEMA = 1

_CLIPS = "clips"
_SPLITS = ("train", "heldout")


def build_faces(
    films: str | Path,
    out: str | Path,
    config: FacesConfig | None = None,
    *,
    workers: int | None = None,
    engine: Engine | None = None,
    retry: bool = False,
    progress: Progress | None = None,
) -> FacesReport:
    """Make aligned face clips out of the films of a folder.

    The clips appear as `out/clips/train/*.mp4` and `out/clips/heldout/*.mp4`, which `build_clips`
    reads; all clips of a film are on the same side. `out/records` holds a record and `out/sheets`
    a contact sheet of every film. A call that was interrupted continues; films added later are
    worked on, films that changed are done anew.

    Args:
        films: Folder of video files and of folders of numbered images, at any depth.
        out: Folder to make or to continue.
        config: Settings; None takes the defaults.
        workers: Films at the same time; None takes one a core. 0 works in this process, without
            protection against films that crash or hang.
        engine: Where the work is done; None takes processes of this machine.
        retry: Try films again that failed before.
        progress: Called with (done, total, what).

    Raises:
        UserError: no films, a foreign `out`, other settings than those `out` was begun with,
            another process at work there, or a package or model that is missing.
    """
    config = config or FacesConfig()
    # Absolute: the workers of a cluster run elsewhere.
    out, root = Path(out).absolute(), Path(films).absolute()
    opencv()
    make_landmarker(config.landmarks)
    cut_detector(config.shots)
    items = _find_films(root, config)
    folder = _folder(out)

    def job(film: WorkItem) -> FilmJob:
        return FilmJob(
            path=str(root / film.name),
            name=film.name,
            key=film.key,
            folder=str(out / _CLIPS / film.extra["split"]),
            sheet=str(out / "sheets" / f"{film.key}.png"),
            config=config,
        )

    with folder.begun(to_dict(config)):
        for split in _SPLITS:
            (out / _CLIPS / split).mkdir(parents=True, exist_ok=True)
        work_through(
            folder,
            items,
            Work(process_film, job, lambda keys: _clear(out, keys)),
            workers=workers,
            engine=engine,
            retry=retry,
            progress=progress,
        )
        return make_report(out, folder.records())


def read_report(out: str | Path) -> FacesReport:
    """The report on everything that `build_faces` has done in a folder so far.

    Raises:
        UserError: `out` holds no face clips.
    """
    folder = _folder(Path(out))
    folder.plan()
    return make_report(Path(out), folder.records())


def film_key(name: str) -> str:
    """A file name for the outputs of a film: readable, portable and its own.

    Example:
        >>> film_key("2019/Great film!.mp4")
        'Great-film-b60355af'
    """
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(name).stem).strip("-")[:40] or "film"
    return f"{stem}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def _folder(out: Path) -> WorkFolder:
    return WorkFolder(out, "faces", SCHEMA, "face clips")


def _find_films(root: Path, config: FacesConfig) -> list[WorkItem]:
    names = video_names(root)
    draws = {name: derive_seed("faces heldout", name) / 2**63 for name in names}
    # Somebody must be trained on, however few films there are.
    always_train = max(names, key=lambda name: draws[name])

    def split(name: str) -> str:
        held_out = draws[name] < config.clips.heldout_fraction and name != always_train
        return "heldout" if held_out else "train"

    return [
        WorkItem(name, film_key(name), fingerprint(root / name), {"split": split(name)})
        for name in names
    ]


def _clear(out: Path, keys: set[str]) -> None:
    """Remove the clips and sheets of films, and half-written files."""
    for split in _SPLITS:
        for file in (out / _CLIPS / split).iterdir():
            match = re.fullmatch(r"(.+)_s\d+_c\d+\.mp4", file.name)
            if file.name.startswith(TEMPORARY_MARK) or (match and match[1] in keys):
                file.unlink()
    for key in keys:
        (out / "sheets" / f"{key}.png").unlink(missing_ok=True)
