"""How many clips a second a live page makes: exported generators in ONNX Runtime Web under Node.

    python benchmarks/live_page.py        # needs the extra `export`, Node, and `vidgan web-runtime`

The runtime is that of the page, WebAssembly with SIMD on one thread, and Node runs it by the engine
of Chromium. Each clip is drawn alone, as the page does; the median of many is printed.
"""

import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from vidgan.core.machine import processor_id
from vidgan.models.base import ClipShape
from vidgan.sampling.storage import GeneratorCard, load_generator, plain_model, save_generator
from vidgan.sharing.export import export
from vidgan.sharing.runtime import MEMBERS, runtime_folder
from vidgan.training.presets import load_config

LARGER = "cpu/overnight"
CLIPS = 30
PROGRAM = """
import fs from "node:fs";
import * as ort from "./ort.wasm.bundle.min.mjs";
const [, , model, inputs, count] = process.argv;
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmBinary = fs.readFileSync("ort-wasm-simd-threaded.wasm");
const session = await ort.InferenceSession.create(fs.readFileSync(model));
const feeds = {};
const random = (length) => Float32Array.from({ length }, () => Math.random() - 0.5);
for (const [name, length] of Object.entries(JSON.parse(inputs)))
  feeds[name] = name === "labels"
    ? new ort.Tensor("int64", BigInt64Array.from([1n]), [1])
    : new ort.Tensor("float32", random(length), [1, length]);
const times = [];
for (let clip = 0; clip < Number(count); clip++) {
  const start = performance.now();
  await session.run(feeds);
  times.push(performance.now() - start);
}
times.sort((a, b) => a - b);
console.log(times[Math.floor(times.length / 2)]);
"""


def larger_generator(folder: Path) -> Path:
    """A fresh generator of the preset for one's own clips at 64 px."""
    config = load_config(LARGER, ["data=none", "run=none"])
    side, frames = config.data.resolution, config.data.frames
    shape = ClipShape(3, frames, side, side)
    torch.manual_seed(0)
    generator = config.model.build(shape, 0).generator.eval()
    card = GeneratorCard(
        model=plain_model(config.model),
        clip_shape=tuple(shape),
        num_classes=0,
        class_names=(),
        stage=generator.stage,
        fps=8.0,
        step=0,
        clips_seen=0,
        loss=config.loss.name,
    )
    save_generator(folder / "larger.safetensors", generator, card)
    return folder / "larger.safetensors"


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for member in MEMBERS:
            packed = runtime_folder() / f"{member}.gz"
            (folder / member).write_bytes(gzip.decompress(packed.read_bytes()))
        (folder / "run.mjs").write_text(PROGRAM, encoding="utf-8")
        print(f"{processor_id()}, one thread\n\n| generator | ms a clip | clips a second |")
        print("| --- | --- | --- |")
        sources = ("zoo:shapes", str(larger_generator(folder)))
        for title, source in zip(("zoo:shapes", LARGER), sources, strict=True):
            generator = load_generator(source)
            export(generator, folder / "clip.onnx")
            inputs = {"latent": generator.latent_dim()}
            inputs |= {"labels": 1} if generator.num_classes else {}
            words = ["node", "run.mjs", "clip.onnx", json.dumps(inputs), str(CLIPS)]
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
            took = float(done.stdout.splitlines()[-1])
            print(f"| `{title}` | {took:.1f} | {1000 / took:.1f} |", flush=True)
            (folder / "clip.onnx").unlink()


if __name__ == "__main__":
    sys.exit(main())
