"""Make a run's generator a part of the package (`zoo:NAME`).

    python benchmarks/zoo.py NAME RUN --about "What it shows." --rendered "vidgan data motions ..."

Stores the newest averaged generator in half precision under src/vidgan/sampling/zoo, evaluates
that file with the run's data by the default protocol, or by `vidgan predict` if it continues
given frames, and enters what came of it into the index.
"""

import argparse
import json
import shlex
from pathlib import Path

import torch

from vidgan.core.files import sha256_of, write_json_atomically
from vidgan.core.machine import machine_name
from vidgan.core.settings import to_dict
from vidgan.evaluation.generators import EvaluationOptions, evaluate
from vidgan.evaluation.predictions import evaluate_predictions
from vidgan.evaluation.record_types import Record
from vidgan.sampling.outputs import diagonal_pixels
from vidgan.sampling.storage import card_of, load_generator, save_generator
from vidgan.sampling.zoo import FOLDER, INDEX, MAX_BYTES, PREFIX, ZooEntry, list_zoo
from vidgan.training.run_folder import device_seconds

NUM_CLIPS = 500
JUDGE_SEED = 101
"""Of the judge, which no recipe was chosen with."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name")
    parser.add_argument("run", type=Path)
    parser.add_argument("--about", required=True, help="what it shows, in a sentence")
    parser.add_argument("--rendered", required=True, help="the command that rendered its clips")
    given = parser.parse_args()

    generator = load_generator(given.run, "last")
    card = card_of(generator)
    path = FOLDER / f"{given.name}.safetensors"
    save_generator(path, generator.half(), card)
    if path.stat().st_size > MAX_BYTES:
        path.unlink()
        raise SystemExit(f"the file would be larger than {MAX_BYTES:,} bytes")
    if not all(value.isfinite().all() for value in generator.state_dict().values()):
        raise SystemExit("a weight does not fit into half precision")

    # The index names the file before it is evaluated under its name.
    entry = ZooEntry(
        name=given.name,
        about=given.about,
        data=given.rendered,
        training=command_of(given.run),
        machine=machine_name("cpu"),
        cpu_seconds=round(device_seconds(given.run) or 0),
        licence="MIT, like vidgan; trained on rendered clips alone",
        sha256=sha256_of(path),
        pixels=diagonal_pixels(load_generator(path)),
    )
    enter(entry)
    record = evaluated(given.name, given.run, continues=bool(generator.context_frames))
    scores = {key: round(score.value, 4) for key, score in record.scores.items()}
    real = {
        key: round(score.real, 4) for key, score in record.scores.items() if score.real is not None
    }
    facts = {"protocol": record.protocol["id"], "scores": scores, "real_scores": real}
    enter(ZooEntry(**{**to_dict(entry), **facts}))
    print(json.dumps(facts, indent=1))


def command_of(run: Path) -> str:
    """The command that trained a run, without the places of data and run."""
    first = (run / "command.txt").read_text(encoding="utf-8").splitlines()[0]
    words = iter(shlex.split(first)[1:])
    kept = ["vidgan"]
    for word in words:
        if word == "--out":
            next(words)
        elif not word.startswith(("data=", "run=")):
            kept.append(word)
    return shlex.join(kept)


def enter(entry: ZooEntry) -> None:
    """Put an entry into the index, in place of one of the same name."""
    there = list_zoo() if (FOLDER / INDEX).exists() else []
    kept = {other.name: other for other in there} | {entry.name: entry}
    write_json_atomically(
        FOLDER / INDEX, {"generators": [to_dict(kept[name]) for name in sorted(kept)]}
    )


def evaluated(name: str, run: Path, continues: bool) -> Record:
    """The evaluation of the stored file on the run's data."""
    options = EvaluationOptions(judge_seed=JUDGE_SEED, notify=print)
    source = f"{PREFIX}{name}"
    if continues:
        return evaluate_predictions(source, run, NUM_CLIPS, options=options)[0]
    return evaluate(source, run, options=options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
