"""Files for other programs compute what the generator does, and hold nothing that runs code."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from generator_files import saved_generator
from model_cases import CASES

import vidgan
from vidgan.cli import main as cli
from vidgan.errors import UserError
from vidgan.models.base import Stage
from vidgan.sampling.storage import CARD_KEY, card_of, load_generator
from vidgan.sharing import tracing
from vidgan.sharing.export import OPSET, export, pickles_in
from vidgan.sharing.tracing import TOLERANCE, TracedGenerator, largest_difference

EXPORTED = {name: case for name, case in CASES.items() if "norm" not in name}
"""One of each path that a generator takes; discriminators are not exported."""
for twin in (
    "pvgan-sliced", "pvgan-sliced-projection", "pvgan-spectral", "pvgan-conv-act-pool",
    "pvgan-auxiliary", "pvgan-unconditional-on-labels", "hrvgan-auxiliary", "tgan-noise",
    "tgan-unconditional-on-labels", "mocogan-full-patch", "mocogan-growing-full-patch",
    "mocogan-growing-full", "mocogan-noise",
):  # fmt: skip
    del EXPORTED[twin]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_generator("vgan", tmp_path_factory.mktemp("plain"))


def test_safetensors_is_the_generator_bit_for_bit(plain: Path, tmp_path: Path) -> None:
    done = vidgan.export(plain, tmp_path / "mine.safetensors")
    assert done.difference == 0
    assert done.num_bytes == done.path.stat().st_size
    first, again = load_generator(plain), load_generator(done.path)
    assert card_of(first) == card_of(again)
    latents = vidgan.sample_latents(first, range(3))
    assert torch.equal(vidgan.sample_clips(first, latents), vidgan.sample_clips(again, latents))


@pytest.mark.slow
def test_a_generator_between_two_levels_is_exported_as_it_stands(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    for level, alpha in ((0, 1.0), (1, 0.25)):
        levels = CASES["pvgan"].config.levels(CASES["pvgan"].clip_shape)
        stage = Stage(
            level=level,
            frames=levels[level].frames,
            resolution=levels[level].resolution,
            batch_size=1,
            alpha=alpha,
        )
        done = export(saved_generator("pvgan", tmp_path, stage), tmp_path / "clip.onnx")
        assert done.output == ("B", 3, levels[level].frames, *[levels[level].resolution] * 2)


@pytest.mark.slow
def test_another_length_is_exported_where_the_model_makes_any(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    done = export(saved_generator("mocogan", tmp_path), tmp_path / "clip.onnx", num_frames=9)
    assert done.output == ("B", 3, 9, 16, 16)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_onnx_and_pt2_equal_pytorch(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnx, onnxruntime = (pytest.importorskip(name) for name in ("onnx", "onnxruntime"))
    file = saved_generator(name, tmp_path)
    generator = load_generator(file)
    source = TracedGenerator(generator)
    model = export(file, tmp_path / "clip.onnx")
    assert 0 <= model.difference <= TOLERANCE
    assert model.output[0] == "B"

    # By another road than the check of the export: a larger batch, of other seeds.
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    inputs = source.inputs(9000, 7)
    assert {i.name for i in session.get_inputs()} == set(inputs) == set(model.inputs)
    (found,) = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    expected = source.generate(inputs)
    scale = max(1.0, float(expected.abs().max()))
    assert float((torch.from_numpy(found) - expected).abs().max()) <= TOLERANCE * scale

    proto = onnx.load(str(model.path))
    onnx.checker.check_model(proto)
    assert [o.version for o in proto.opset_import if not o.domain] == [OPSET]
    assert {node.domain for node in proto.graph.node} == {""}
    (card,) = (entry.value for entry in proto.metadata_props if entry.key == CARD_KEY)
    assert json.loads(card)["model"]["name"] == name.split("-")[0]
    assert b"site-packages" not in model.path.read_bytes()

    program = export(file, tmp_path / "clip.pt2")
    assert program.difference <= TOLERANCE
    assert pickles_in(program.path) == []
    loaded = torch.export.load(program.path).module()
    torch.testing.assert_close(loaded(*inputs.values()), expected, rtol=0, atol=TOLERANCE * scale)


def test_pt2_holds_no_pickle_and_no_path_of_this_machine(plain: Path, tmp_path: Path) -> None:
    done = vidgan.export(plain, tmp_path / "clip.pt2")
    with zipfile.ZipFile(done.path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    text = b"".join(members.values())
    assert str(Path(vidgan.__file__).parent).encode() not in text
    assert not any(content.startswith(b"PK") for content in members.values())
    card = next(content for name, content in members.items() if name.endswith(CARD_KEY))
    assert json.loads(card)["model"]["name"] == "vgan"


def test_the_look_for_pickles_sees_what_torch_writes_by_default(
    plain: Path, tmp_path: Path
) -> None:
    program = tracing.trace(TracedGenerator(load_generator(plain)))
    assert program.example_inputs is not None
    torch.export.save(program, tmp_path / "usual.pt2")
    assert pickles_in(tmp_path / "usual.pt2")


def test_a_file_that_computes_something_else_is_refused() -> None:
    generator = CASES["vgan"].build().train(False).generator

    source = TracedGenerator(generator)
    assert largest_difference(source, source.generate) == 0
    with pytest.raises(UserError, match=r"differs from PyTorch by .* nothing was written"):
        largest_difference(source, lambda inputs: source.generate(inputs) + 2e-4)
    with pytest.raises(UserError, match="nothing was written"):
        largest_difference(source, lambda inputs: source.generate(inputs) * float("nan"))
    with pytest.raises(UserError, match=r"makes .* of 1 latents"):
        largest_difference(source, lambda inputs: source.generate(inputs)[:, :, 1:])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["clip.bin"], "names no format"),
        (["clip.onnx", "--to", "pt2"], "ends in .pt2"),
        (["clip.safetensors", "--frames", "3"], "leave the length out"),
        (["clip.pt2", "--frames", "3"], "makes 6 frames"),
    ],
)
def test_what_cannot_be_exported_is_named(
    words: list[str], sentence: str, plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / words[0]
    out.write_bytes(b"mine")
    assert cli.run(["export", str(plain), str(out), *words[1:]]) == 2
    assert sentence in capsys.readouterr().err
    assert out.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == [words[0]]


def test_the_verb_prints_what_it_wrote(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.safetensors"
    assert cli.run(["export", str(plain), str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["format"] == "safetensors"
    assert document["inputs"] == {"latent": ["B", 5]}
    assert document["output"] == ["B", 3, 6, 16, 16]
