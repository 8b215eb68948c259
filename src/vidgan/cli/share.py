"""Verbs that hand a generator to others: `export`, `web-runtime`, `push` and `pull`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vidgan.cli.common import Flags, Run, print_json, print_lines, print_made
from vidgan.core.progress import say

OptionalArchive = Annotated[Path | None, tyro.conf.arg(metavar="[ARCHIVE]")]
Repository = Annotated[str, tyro.conf.arg(metavar="OWNER/NAME")]
OptionalOut = Annotated[Path | None, tyro.conf.arg(metavar="[OUT]")]


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """Flags of `export`."""

    to: Literal["onnx", "pt2", "safetensors", "web"] | None = None
    """kind of file; by default what the suffix of OUT says, or onnx."""
    frames: int | None = None
    """length of the clips, where the model makes any; by default the trained one."""
    checkpoint: str = "best"
    """best, last or a step."""
    json: bool = False
    """print a JSON document."""


def export(run: Run, out: OptionalOut = None, /, *, flags: Flags[ExportFlags]) -> None:
    """Write a generator as a file that other programs run, compared with PyTorch first.

    Args:
        run: run folder, checkpoint folder, generator file, zoo:NAME or hub id.
        out: file to write; by default generator.onnx (or as --to says) in the run folder.
    """
    from vidgan.sharing.export import SUFFIXES
    from vidgan.sharing.export import export as export_generator

    if out is None:
        folder = Path(run) if Path(run).is_dir() else Path()
        out = folder / f"generator{SUFFIXES[flags.to or 'onnx']}"
    done = export_generator(run, out, flags.to, flags.frames, flags.checkpoint)
    if flags.json:
        print_json(asdict(done))
        return
    print_lines(done.path)
    say(f"{done.num_bytes / 1e6:.1f} MB, within {done.difference:.1g} of PyTorch")


def web_runtime(archive: OptionalArchive = None, /, *, json: bool = False) -> None:
    """Fetch what runs generators in browsers into the cache, once, by npm.

    Args:
        archive: the archive onnxruntime-web-VERSION.tgz, if it was fetched elsewhere.
        json: print a JSON document.
    """
    from vidgan.sharing.runtime import fetch_runtime

    print_made(fetch_runtime(archive), json)


@dataclass(frozen=True, kw_only=True)
class PushFlags:
    """Flags of `push`."""

    license: str
    """under which others may use the weights, such as mit, cc-by-4.0 or other."""
    failure: tuple[str, ...] = ()
    """a sentence on what the generator does wrong, for the card."""
    checkpoint: str = "best"
    """best, last or a step."""
    private: bool = False
    """a new repository is seen by its owner alone."""
    dry_run: bool = False
    """write the folder here, under the repository's name, and push nothing."""
    json: bool = False
    """print a JSON document."""


def push(run: Run, repository: Repository, /, *, flags: Flags[PushFlags]) -> None:
    """Push a generator with a generated model card to the Hugging Face hub.

    Args:
        run: run folder, checkpoint folder, or generator file.
        repository: OWNER/NAME on the hub.
    """
    from vidgan.sharing.hub import check_repository, push_to_hub, save_pretrained

    check_repository(repository)
    about = (flags.license, flags.failure, flags.checkpoint)
    if flags.dry_run:
        print_made(save_pretrained(run, Path(repository).name, *about), flags.json)
    else:
        print_made(push_to_hub(run, repository, *about, flags.private), flags.json)


def pull(
    repository: Repository,
    out: OptionalOut = None,
    /,
    *,
    revision: str | None = None,
    json: bool = False,
) -> None:
    """Copy a generator with its model card from the Hugging Face hub.

    Args:
        repository: OWNER/NAME on the hub.
        out: a new folder; by default the repository's name.
        revision: branch, tag or commit; by default the newest.
        json: print a JSON document.
    """
    from vidgan.sharing.hub import pull as pull_generator

    print_made(pull_generator(repository, out or Path(repository).name, revision), json)
