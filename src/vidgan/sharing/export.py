"""`vidgan export`: a generator as a file that other programs run.

Every file is compared with the generator before it gets its name, and none holds a pickle.
"""

import json
import logging
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from vidgan.core.files import check_place, write_file_atomically, write_text_atomically
from vidgan.core.settings import to_dict
from vidgan.errors import UserError
from vidgan.models.base import Generator
from vidgan.sampling.storage import CARD_KEY, card_of, load_generator, save_generator
from vidgan.sharing.tracing import Inputs, TracedGenerator, largest_difference, trace

if TYPE_CHECKING:
    import onnx

Format = Literal["onnx", "pt2", "safetensors", "web"]

SUFFIXES: dict[Format, str] = {
    "onnx": ".onnx",
    "pt2": ".pt2",
    "safetensors": ".safetensors",
    "web": ".html",
}

OPSET = 20
"""Version of the ONNX operators: onnxruntime 1.17 and newer know it."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        format: its kind.
        num_bytes: its size.
        inputs: name of each input and its axes; `B` clips is open, the others are fixed.
        output: axes of the clip, float32 around [-1, 1].
        difference: largest difference from PyTorch.
        opset: version of the operators of an ONNX model.
        operators: how often an ONNX model uses each.
    """

    path: Path
    format: Format
    num_bytes: int
    inputs: dict[str, tuple[str | int, ...]]
    output: tuple[str | int, ...]
    difference: float
    opset: int | None = None
    operators: dict[str, int] | None = None


def export(
    source: str | Path | Generator,
    out: str | Path,
    to: Format | None = None,
    num_frames: int | None = None,
    checkpoint: str | int = "best",
) -> Exported:
    """Write a generator as a file that other programs run.

    The file takes what the generator takes, for any number B of clips: `latent` float32 `[B, Z]`,
    `labels` int64 `[B]` and `context` float32 `[B, C, T0, H, W]` in [-1, 1]; and gives `clip`,
    float32 `[B, C, T, H, W]` around [-1, 1]. It is compared with the generator on batches of 1, 2
    and 5 clips before it gets its name.

    Args:
        source: a generator that `load_generator` returned, or what that takes.
        out: the file to write.
        to: `onnx`, `pt2` (torch.export), `safetensors` (the weights and what vidgan needs to use
            them) or `web` (a page that runs the generator); by default what the suffix of `out`
            says.
        num_frames: length T of the clips, for generators that make any; by default the trained one.
        checkpoint: of a run folder, see `load_generator`.

    Raises:
        UserError: a package is missing, the length is not supported, or the file computes
            something else than the generator.

    Example:
        >>> import vidgan
        >>> vidgan.export("runs/demo", "demo.onnx")  # doctest: +SKIP
    """
    out = Path(out)
    kind = _format_of(out, to)
    check_place(out)
    _check_packages(kind)
    generator = source if isinstance(source, Generator) else load_generator(source, checkpoint)
    if num_frames is not None and kind == "safetensors":
        raise UserError("safetensors holds the generator for every length; leave the length out")
    like = next(generator.parameters())
    if like.device.type != "cpu" or like.dtype != torch.float32:
        raise UserError("export takes a float32 generator on the CPU: call generator.cpu().float()")
    if kind == "web":
        name = source if isinstance(source, str | Path) else "RUN"
        return _export_web(TracedGenerator(generator, num_frames), out, str(name))
    return _WRITERS[kind](TracedGenerator(generator, num_frames), out)


def _format_of(out: Path, to: Format | None) -> Format:
    by_suffix: dict[str, Format] = {suffix: kind for kind, suffix in SUFFIXES.items()}
    to = by_suffix.get(out.suffix.lower()) if to is None else to
    if to is None or to not in SUFFIXES:
        raise UserError(
            f"{out.name} names no format: end it in {', '.join(by_suffix)}, or choose one of "
            f"{', '.join(SUFFIXES)}"
        )
    if out.suffix.lower() != SUFFIXES[to]:
        raise UserError(f"a file for {to} ends in {SUFFIXES[to]}, not {out.name}")
    return to


def _check_packages(kind: Format) -> None:
    if kind not in ("onnx", "web"):
        return
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{kind} needs the extra 'export' ({error.name} is missing): pip install "
            f"'vidgan[export]'"
        ) from error


def _described(source: TracedGenerator, path: Path, kind: Format, difference: float) -> Exported:
    inputs = source.inputs(0, 2)
    clip = tuple(source.generate(inputs).shape[1:])
    return Exported(
        path=path,
        format=kind,
        num_bytes=path.stat().st_size,
        inputs={name: ("B", *value.shape[1:]) for name, value in inputs.items()},
        output=("B", *clip),
        difference=difference,
    )


def _write_checked(
    source: TracedGenerator,
    out: Path,
    kind: Format,
    write: Callable[[Path], Any],
    open_file: Callable[[Path], Callable[[Inputs], Any]],
) -> Exported:
    """Write a file, open it again as its readers would, and compare before it gets its name."""
    found: list[float] = []

    def write_and_check(temporary: Path) -> None:
        write(temporary)
        found.append(largest_difference(source, open_file(temporary)))

    write_file_atomically(out, write_and_check)
    return _described(source, out, kind, *found)


# ------------------------------------------------------------------------------------------------
# safetensors: the generator file of a run, by itself


def _export_safetensors(source: TracedGenerator, out: Path) -> Exported:
    def write(path: Path) -> None:
        save_generator(path, source.generator, card_of(source.generator))

    def opened(path: Path) -> Callable[[Inputs], Any]:
        return TracedGenerator(load_generator(path)).generate

    return _write_checked(source, out, "safetensors", write, opened)


# ------------------------------------------------------------------------------------------------
# torch.export


def _export_pt2(source: TracedGenerator, out: Path) -> Exported:
    program = trace(source)
    # Examples of inputs would be kept as a pickle.
    program.example_inputs = None
    card = json.dumps(to_dict(source.card), allow_nan=False)

    def write(path: Path) -> None:
        torch.export.save(program, path, extra_files={CARD_KEY: card})
        pickles = pickles_in(path)
        if pickles:
            raise UserError(
                f"this version of torch would write the pickle {pickles[0]} into {out.name}, which "
                f"runs code when it is read, so nothing was written; export to onnx instead"
            )

    def opened(path: Path) -> Callable[[Inputs], Any]:
        module = torch.export.load(path).module()
        return lambda inputs: module(*inputs.values())

    return _write_checked(source, out, "pt2", write, opened)


def pickles_in(path: str | Path) -> list[str]:
    """Members of a torch.export archive that its reader would unpickle."""
    found = []
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            inside = member.filename.partition("/")[2]
            if inside.startswith("data/sample_inputs/") and member.file_size:
                found.append(member.filename)
            if inside.endswith("_config.json"):
                entries = json.loads(archive.read(member))["config"]
                found += [name for name, entry in entries.items() if entry.get("use_pickle")]
    return found


# ------------------------------------------------------------------------------------------------
# ONNX


def _export_onnx(source: TracedGenerator, out: Path) -> Exported:
    model = onnx_model(source)
    content = model.SerializeToString()

    def write(path: Path) -> None:
        path.write_bytes(content)

    exported = _write_checked(source, out, "onnx", write, lambda path: onnx_session(str(path)))
    operators = Counter(node.op_type for node in model.graph.node)
    return Exported(
        **{**vars(exported), "opset": OPSET, "operators": dict(sorted(operators.items()))}
    )


def onnx_model(source: TracedGenerator) -> "onnx.ModelProto":
    """The generator as an ONNX model whose metadata hold its card."""
    program = trace(source)
    names = list(source.inputs(0, 1))
    with _quiet():
        made = torch.onnx.export(
            program,
            (),
            dynamo=True,
            input_names=names,
            output_names=["clip"],
            opset_version=OPSET,
            verbose=False,
        )
    assert made is not None
    model: onnx.ModelProto = made.model_proto
    # What the exporter notes of its way here, files of this machine among it.
    for thing in (model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        del thing.metadata_props[:]
    del model.metadata_props[:]
    del model.graph.value_info[:]
    model.metadata_props.add(key=CARD_KEY, value=json.dumps(to_dict(source.card), allow_nan=False))
    if [opset.version for opset in model.opset_import if opset.domain == ""] != [OPSET]:
        raise UserError(
            f"this model needs operators newer than opset {OPSET}; use the torch of constraints.txt"
        )
    return model


def onnx_session(model: str | bytes) -> Callable[[Inputs], Any]:
    """A function that runs an ONNX model, from a file or from its bytes, with onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def run(inputs: Inputs) -> Any:
        return session.run(["clip"], {name: value.numpy() for name, value in inputs.items()})[0]

    return run


def _export_web(source: TracedGenerator, out: Path, name: str) -> Exported:
    from vidgan.sharing.runtime import read_runtime
    from vidgan.sharing.web import build_page

    runtime = read_runtime()
    model = onnx_model(source).SerializeToString()
    difference = largest_difference(source, onnx_session(model))
    # Where the run lies on this machine is nobody's business.
    named = Path(name).name if Path(name).is_absolute() else name
    write_text_atomically(out, build_page(source, named, model, runtime))
    return _described(source, out, "web", difference)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on operators of libraries that are not there."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


_WRITERS: dict[Format, Callable[[TracedGenerator, Path], Exported]] = {
    "onnx": _export_onnx,
    "pt2": _export_pt2,
    "safetensors": _export_safetensors,
}
