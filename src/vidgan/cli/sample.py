"""Verbs that use a trained generator: `sample` and `interpolate`."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import tyro

from vidgan.cli.common import (
    ClassName,
    Flags,
    Run,
    config_of_run,
    data_settings,
    open_data,
    print_json,
    print_lines,
    print_note,
    print_table,
    progress_on_stderr,
    tell_edited_settings,
    write_page_of,
)
from vidgan.core.files import cache_folder, check_place
from vidgan.core.progress import say
from vidgan.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from vidgan.data.settings import DataConfig
    from vidgan.models.base import Box, Generator


GRID_SUFFIXES = {".mp4", ".gif", ".webp", ".png"}
MAX_GRID, MAX_FOLDER = 4096, 10_000_000
"""Most clips of one file, and of a folder."""
"""Suffixes that mean a file, not a folder of this name."""


@dataclass(frozen=True, kw_only=True)
class SampleFlags:
    """Flags of `sample`."""

    num: int = 16
    """number of clips."""
    class_name: ClassName = None
    """one class for all clips; without it every clip draws its own."""
    truncation: float | None = None
    """bound of the latents in standard deviations, where the model supports it."""
    frames: int | None = None
    """length of the clips, where the model makes any; by default the trained one."""
    show: Literal["clips", "layers", "motions"] = "clips"
    """clips; layers shows mask, foreground and background beside each clip (vgan); motions
    is a square of clips with the same content along rows and the same motion along columns
    (mocogan)."""
    seed: int = 0
    """seed of the first clip; clip i has seed + i."""
    checkpoint: str = "best"
    """best, last or a step."""
    json: bool = False
    """print a JSON document."""


def sample(
    run: Run,
    out_word: Annotated[str, tyro.conf.arg(metavar="OUT")],
    /,
    *,
    flags: Flags[SampleFlags],
) -> None:
    """Generate clips: a grid in one file, or a folder of lossless clips.

    Args:
        run: run folder, checkpoint folder, generator file, zoo:NAME or hub id.
        out_word: OUT.mp4, .gif or .webp for a grid, .png for frames side by side, else a folder.
    """
    from vidgan.core.distributed import join_processes
    from vidgan.sampling.outputs import SampleSettings, write_sample_folder, write_sample_grid
    from vidgan.sampling.outputs import sample as draw_samples
    from vidgan.sampling.showing import layers_table, motions_table, rows_of_square, write_table
    from vidgan.sampling.storage import card_of, load_generator

    out = Path(out_word)
    check_format(out, flags.show, is_folder=out.is_dir() or out_word.endswith("/"))
    is_grid = out.suffix.lower() in GRID_SUFFIXES
    check_counts(flags.num, flags.frames, MAX_GRID if is_grid else MAX_FOLDER)
    check_place(out)
    settings = SampleSettings(
        class_name=flags.class_name, truncation=flags.truncation, num_frames=flags.frames
    )
    seeds = range(flags.seed, flags.seed + flags.num)
    with join_processes() as processes:
        generator = load_generator(run, flags.checkpoint).to(processes.device)
        card = card_of(generator)
        if not is_grid:
            with progress_on_stderr() as progress:
                write_sample_folder(
                    out,
                    generator,
                    seeds,
                    settings,
                    lambda done, total: progress(done, total, "generating clips"),
                    processes,
                )
        if not processes.is_first:
            # A grid is little work, and one file.
            return
    tell_edited_settings(run, card.step)
    if flags.show == "layers":
        print_note(write_table(out, layers_table(generator, seeds, settings), card.fps))
    elif flags.show == "motions":
        seeds = range(flags.seed, flags.seed + rows_of_square(flags.num))
        print_note(write_table(out, motions_table(generator, seeds, settings), card.fps))
    elif is_grid:
        samples = draw_samples(generator, seeds, settings)
        print_note(write_sample_grid(out, samples, card.fps))
    if flags.json:
        print_json({"out": str(out), "num": flags.num, "seed": flags.seed, "step": card.step})
    else:
        print_lines(out)


def check_format(out: Path, show: str, is_folder: bool) -> None:
    """Raise UserError for a name that is neither a grid's nor a folder's, or not what is shown."""
    suffix, known = out.suffix.lower(), ", ".join(sorted(GRID_SUFFIXES))
    is_bare = out.name.lower() in GRID_SUFFIXES
    if (is_bare or suffix not in ("", *GRID_SUFFIXES)) and not is_folder:
        raise UserError(
            f"{out} is not a supported output format; use {known} for a grid, or a folder: a name "
            "without a suffix, or with / behind it"
        )
    if show != "clips" and suffix not in GRID_SUFFIXES:
        raise UserError(
            f"--show {show} writes a single image or video, and {out} is neither; use one of "
            f"{known}"
        )


def check_counts(num: int, frames: int | None, most: int) -> None:
    """Raise UserError for no clips, more than `most`, or clips of no frames."""
    if not 1 <= num <= most:
        more = "" if most > MAX_GRID else "; a folder takes more"
        raise UserError(f"--num {num} must lie in 1..{most}{more}")
    if frames is not None and frames < 1:
        raise UserError(f"--frames {frames} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class InterpolateFlags:
    """Flags of `interpolate`."""

    start: int = 0
    """seed of the first clip."""
    end: int = 1
    """seed of the last clip."""
    steps: int = 8
    """clips along the path."""
    mode: Literal["linear", "slerp"] = "linear"
    """straight line, or arc on the sphere."""
    class_name: ClassName = None
    """class of every clip; without it the class that the first seed draws."""
    checkpoint: str = "best"
    """best, last or a step."""
    json: bool = False
    """print a JSON document."""


def interpolate(
    run: Run,
    out: Annotated[Path | None, tyro.conf.arg(metavar="[OUT]")] = None,
    /,
    *,
    flags: Flags[InterpolateFlags],
) -> None:
    """Walk through the latent space: a video, and an image with one row of frames per step.

    Args:
        run: run folder, checkpoint folder, generator file, zoo:NAME or hub id.
        out: video to write (.mp4, .gif or .webp), with the image beside it as .png; by default
            interpolation.mp4 in the run.
    """
    from vidgan.core.distributed import default_device
    from vidgan.sampling.outputs import ANIMATIONS, interpolate_seeds, write_interpolation
    from vidgan.sampling.storage import card_of, load_generator

    folder = Path(run) if Path(run).is_dir() else Path()
    video = out or folder / "interpolation.mp4"
    if video.suffix.lower() in ("", ".png"):
        video = video.with_suffix(".mp4")
    if video.suffix.lower() not in ANIMATIONS:
        raise UserError(
            f"{video} is not a supported video format; use one of {', '.join(ANIMATIONS)}"
        )
    if not 2 <= flags.steps <= MAX_GRID:
        raise UserError(f"--steps {flags.steps} must lie in 2..{MAX_GRID}")
    check_place(video)
    generator = load_generator(run, flags.checkpoint).to(default_device())
    card = card_of(generator)
    tell_edited_settings(run, card.step)
    image = video.with_suffix(".png")
    clips = interpolate_seeds(
        generator, flags.start, flags.end, flags.steps, flags.mode, flags.class_name
    )
    write_interpolation(video, image, clips, card.fps)
    if flags.json:
        print_json({"video": str(video), "image": str(image), "step": card.step})
    else:
        print_lines(video, image)


# ------------------------------------------------------------------------------------------------
# The verb `predict`

Clips = Annotated[tuple[str, ...], tyro.conf.arg(metavar="[CLIP ...] [KEY=VALUE ...]")]

CHECKPOINT = "best"
DEFAULT_CLIPS, DEFAULT_PREDICTIONS = 500, 4
NUM_IMAGES = 4
"""Number of clips drawn when many held-out clips are predicted."""


@dataclass(frozen=True, kw_only=True)
class PredictFlags:
    """Flags of `predict`."""

    context: int | None = None
    """given frames; only the number that the model was trained with will do."""
    protocol: Literal["prediction", "prediction-best-of-100"] = "prediction"
    """how held-out clips are scored; the second makes 100 predictions of each of 256 clips, and the
    best one counts."""
    num: int | None = None
    """predictions for every clip; 4 unless said otherwise, a model without a latent makes one."""
    seed: int = 0
    """of predictions, of chosen clips and of the judge."""
    mask: str | None = None
    """x,y,width,height in pixels of the model's frames: hide this box, to be filled in."""
    class_name: ClassName = None
    """class of the clips, for a class-conditional model."""
    num_clips: int | None = None
    """held-out clips to score; 500 unless said otherwise."""
    out: Path | None = None
    """folder for videos and strips; by default predictions in the run folder."""
    json: bool = False
    """print a JSON document."""


def predict(
    run: Run,
    clips: Clips = (),
    /,
    *,
    flags: Flags[PredictFlags],
) -> None:
    """Continue given frames, and compare with the truth and with what needs no model.

    Each clip gives a video and a strip of frames: orange borders around predicted frames, blue ones
    around given and true ones. A model that colourises or restores clips does that.

    Args:
        run: run folder, checkpoint folder, generator file, zoo:NAME or hub id.
        clips: videos; or data=FOLDER, to score held-out clips (without either: those of the run);
            lpips=alex or lpips=vgg adds LPIPS, whose weights you have converted (vidgan weights).
    """
    from vidgan.core.distributed import default_device
    from vidgan.sampling.predict import check_takes_context
    from vidgan.sampling.storage import card_of, find_generator_file, load_generator

    if min(1 if n is None else n for n in (flags.num, flags.num_clips)) < 1:
        raise UserError("--num and --num-clips must be at least 1")
    words = tuple(word for word in clips if "=" in word and not Path(word).exists())
    files = [Path(word) for word in clips if word not in words]
    words, lpips = take_lpips(words)
    file = find_generator_file(run, CHECKPOINT)
    generator = load_generator(file).to(default_device())
    check_takes_context(generator)
    tell_edited_settings(run, card_of(generator).step)
    if flags.context not in (None, generator.context_frames):
        raise UserError(
            f"--context {flags.context} does not fit: this model was trained with "
            f"{generator.context_frames} given frames; leave the flag out"
        )
    if files and (flags.num_clips is not None or any(word.startswith("data=") for word in words)):
        raise UserError("name clips, or data=FOLDER with --num-clips, but not both")
    if flags.class_name is not None and not (files and generator.num_classes):
        raise UserError("--class is for single clips and a model with classes; leave it out")
    own_numbers = (flags.num, flags.num_clips, flags.mask) != (None, None, None)
    if flags.protocol != "prediction" and (files or own_numbers):
        raise UserError(
            f"--protocol {flags.protocol} says which clips are predicted and how often: leave out "
            "clips, --num, --num-clips and --mask"
        )
    folder = flags.out or (Path(run) if Path(run).is_dir() else Path()) / "predictions"
    check_place(folder)
    box = None if flags.mask is None else parse_box(flags.mask)
    num = DEFAULT_PREDICTIONS if flags.num is None else flags.num
    wanted = Wanted(num, flags.seed, box, folder, lpips, flags.protocol)
    if files:
        labels = labels_for_files(generator, flags.class_name)
        told = predict_files(generator, clip_settings(run, words), files, labels, wanted)
    else:
        told = predict_heldout(file, run, words, flags.num_clips or DEFAULT_CLIPS, wanted)
    if flags.json:
        print_json(told.document)
        return
    for line in told.lines:
        print_lines(line)
    if told.table:
        print_table(told.table, list(told.table[0]))
    for line in told.remarks:
        print_lines(line)


class Wanted(NamedTuple):
    """What the flags ask for."""

    num: int
    seed: int
    box: "Box | None"
    folder: Path
    lpips: str | None
    protocol: str


class Told(NamedTuple):
    """What is printed: a JSON document, or lines around a table."""

    document: dict[str, Any]
    lines: list[str]
    table: list[dict[str, Any]]
    remarks: list[str]


def take_lpips(words: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    """The words without `lpips=BACKBONE`, and the backbone."""
    mark = "lpips="
    given = [word.removeprefix(mark) for word in words if word.startswith(mark)]
    return tuple(word for word in words if not word.startswith(mark)), given[-1] if given else None


def parse_box(text: str) -> "Box":
    """The box that `x,y,width,height` names."""
    from vidgan.models.base import Box

    try:
        x, y, width, height = map(int, text.split(","))
    except ValueError as error:
        raise UserError(
            f"--mask {text} must be four whole numbers x,y,width,height, such as 4,4,8,8"
        ) from error
    return Box(x, y, width, height)


# ------------------------------------------------------------------------------------------------
# Single clips


def predict_files(
    generator: "Generator",
    settings: "DataConfig",
    files: list[Path],
    labels: "Tensor | None",
    wanted: Wanted,
) -> Told:
    """Predict the clips of video files, draw them and compare them with their ends."""
    import torch

    from vidgan.extractors.lpips import load_perceptual
    from vidgan.metrics.image_quality import score_frames
    from vidgan.sampling.predict import part_windows, write_prediction
    from vidgan.sampling.predict import predict as predict_frames

    perceptual = load_perceptual(wanted.lpips) if wanted.lpips else None
    done, entries, lines = [], [], []
    for path, name in zip(files, names_of_files(files), strict=True):
        window, fps = read_window(path, settings, generator.context_frames)
        parted = part_windows(generator, window[None], wanted.seed, wanted.box)
        made = predict_frames(
            generator, parted.context, wanted.num, seed=wanted.seed, labels=labels
        )
        samples = parted.new_frames(generator, made)
        baselines = parted.baselines(samples.shape[3])
        video, strip = write_prediction(wanted.folder / name, parted, samples, baselines, fps)
        entry: dict[str, Any] = {"clip": str(path), "video": str(video), "strip": str(strip)}
        entry["scores"] = None
        if parted.target.shape[2]:
            done.append((samples, parted.target, baselines))
            entry["scores"] = score_frames(*done[-1], perceptual)
        entries.append(entry)
        lines += [str(video), str(strip)]
    scores, table, remarks = None, [], []
    if done:
        all_samples, all_targets = (torch.cat(part) for part in list(zip(*done, strict=True))[:2])
        others = {name: torch.cat([entry[2][name] for entry in done]) for name in done[0][2]}
        scores = score_frames(all_samples, all_targets, others, perceptual)
        table = rows_of_frames(scores)
        remarks = [f"mean over {len(done)} clips"] if len(done) > 1 else []
    if len(done) < len(files):
        remarks.append("no truth to compare with: a clip ends with its given frames")
    document = {
        "given_frames": generator.context_frames,
        "predicted_frames": samples.shape[3],
        "num_samples": samples.shape[1],
        "clips": entries,
        "scores": scores,
    }
    return Told(document, lines, table, remarks)


def read_window(path: Path, settings: "DataConfig", num_given: int) -> tuple["Tensor", float]:
    """The frames of a file that training would see of it, or the given frames alone, and the rate.

    Returns:
        uint8 `[C, T, H, W]` and frames per second.

    Raises:
        UserError: not readable, or a wrong number of frames.
    """
    import torch

    from vidgan.data.build.encode import EncodeJob, Rejected, encode_video, full_levels
    from vidgan.data.sources.source import Source

    policy = "central" if settings.clip == "random" else settings.clip
    config = replace(settings, clip=policy, short="drop", stored_frames=None)
    source = Source(name=str(path), path=path)
    found = encode_video(EncodeJob(source, config, full_levels(config, ()), config.resolution))
    if isinstance(found, Rejected) and found.num_frames == num_given:
        config = replace(config, frames=num_given)
        found = encode_video(EncodeJob(source, config, full_levels(config, ()), config.resolution))
    if isinstance(found, Rejected):
        if found.num_frames is None:
            raise UserError(f"{path}: {found.reason}")
        alone = f", or {num_given} alone" if num_given < settings.frames else ""
        raise UserError(
            f"{path} has {found.num_frames} frames, and this model needs {settings.frames}: "
            f"{num_given} given ones and those to compare with{alone}"
        )
    if found.notes:
        say(f"{path}: {', '.join(found.notes)}")
    assert found.preview is not None
    return torch.from_numpy(found.preview), found.fps


def names_of_files(files: list[Path]) -> list[str]:
    """A name for what is written about each file; those of one name get their folder's too."""
    counts = Counter(path.stem for path in files)
    long = [f"{path.resolve().parent.name}-{path.stem}" for path in files]
    names = [
        path.stem if counts[path.stem] == 1 else name
        for path, name in zip(files, long, strict=True)
    ]
    again = Counter(names)
    return [
        name if again[name] == 1 else f"{name}-{number}" for number, name in enumerate(names, 1)
    ]


def labels_for_files(generator: "Generator", class_name: str | None) -> "Tensor | None":
    """The class of a clip, for a class-conditional generator."""
    from vidgan.sampling.outputs import labels_of

    if generator.num_classes and class_name is None:
        raise UserError("this model is class-conditional: give the class of the clips with --class")
    return labels_of(generator, [0], class_name)


def clip_settings(run: str, words: tuple[str, ...]) -> "DataConfig":
    """How a clip is cut: as in the run, or as the generator's size demands."""
    config = config_of_run(run, words)
    return data_settings(run, words, CHECKPOINT) if config is None else config.data


def rows_of_frames(scores: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for every predicted frame, and one for their mean."""
    rows: list[dict[str, Any]] = []
    num_frames = len(scores["psnr"]["per_frame"])
    for frame in [*range(num_frames), None]:
        row: dict[str, Any] = {"frame": "mean" if frame is None else f"+{frame + 1}"}
        for metric, entry in scores.items():
            best = f"best of {entry['num_samples']}"
            columns = {"model": entry["value"], best: entry["best_of_k"], **entry["controls"]}
            if frame is not None:
                columns = {"model": entry["per_frame"], best: entry["best_of_k_per_frame"]}
                columns |= entry["controls_per_frame"]
                columns = {name: values[frame] for name, values in columns.items()}
            row |= {f"{metric.upper()} {name}": value for name, value in columns.items()}
        rows.append(row)
    return rows


# ------------------------------------------------------------------------------------------------
# Many held-out clips


def predict_heldout(
    file: Path, run: str, words: tuple[str, ...], num_clips: int, wanted: Wanted
) -> Told:
    """Score predictions of held-out clips, keep the record, and draw some."""
    from vidgan.core.distributed import default_device
    from vidgan.evaluation.clips import EvaluationOptions
    from vidgan.evaluation.predictions import (
        evaluate_best_of_100,
        evaluate_predictions,
        headline,
        table_rows,
    )
    from vidgan.evaluation.record import save_record
    from vidgan.sampling.predict import image_name, write_prediction

    config, data = open_data(run, words, CHECKPOINT)
    options = EvaluationOptions(
        seed=wanted.seed,
        judge_seed=wanted.seed,
        cache=cache_folder() / "judges",
        device=default_device(),
        notify=say,
    )
    if wanted.protocol == "prediction":
        record, predictions = evaluate_predictions(
            file,
            data,
            num_clips,
            wanted.num,
            box=wanted.box,
            lpips=wanted.lpips,
            options=options,
        )
    else:
        record, predictions = evaluate_best_of_100(file, data, lpips=wanted.lpips, options=options)
    saved = save_record(record, Path(run) / "evals" if config is not None else wanted.folder)
    say(f"the record is {saved}")
    if config is not None:
        write_page_of(Path(run))
    lines: list[str] = []
    shown = (predictions.parted, predictions.samples, predictions.baselines)
    for index, source in enumerate(predictions.names[:NUM_IMAGES]):
        stem = wanted.folder / image_name(source)
        lines += map(str, write_prediction(stem, *shown, data.store.fps, index))
    lines.append(headline(record))
    remarks = [f"warning: {warning}" for warning in record.warnings]
    document = record.without_clips().to_dict()
    return Told(document, lines, table_rows(record), [*remarks, record.sentence])
