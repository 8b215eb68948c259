"""Folders for the hub, the way there and back, and the model card."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from generator_files import saved_generator
from hub_server import hub_server
from safetensors import safe_open

import vidgan
from vidgan.cli import main as cli
from vidgan.errors import UserError
from vidgan.sampling.storage import HUB_FILE, card_of

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_generator("pvgan-projection", tmp_path_factory.mktemp("file"))


def head_of(folder: Path) -> dict[str, object]:
    _, head, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    found: dict[str, object] = yaml.safe_load(head)
    return found


def test_a_saved_folder_gives_the_same_clips_in_a_new_process(file: Path, tmp_path: Path) -> None:
    folder = vidgan.save_pretrained(file, tmp_path / "model", "mit", ["eyes blink *never*"])
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", HUB_FILE]
    with safe_open(folder / HUB_FILE, framework="pt") as tensors:
        assert tensors.keys()
    generator = vidgan.load_generator(file)
    expected = vidgan.sample_clips(generator, vidgan.sample_latents(generator, range(3)), 1)
    code = (
        "import sys, torch, vidgan\n"
        "generator = vidgan.from_pretrained(sys.argv[1])\n"
        "clips = vidgan.sample_clips(generator, vidgan.sample_latents(generator, range(3)), 1)\n"
        "sys.stdout.buffer.write(clips.numpy().tobytes())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.stdout == expected.numpy().tobytes()

    assert head_of(folder)["license"] == "mit"
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "- eyes blink \\*never\\*" in text
    assert "This checkpoint was not evaluated." in text
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["model"]["name"] == "pvgan"
    assert config["class_names"] == ["class 0", "class 1", "class 2"]


@pytest.mark.parametrize("license", ["", " ", "MIT License", "mit\nevil: yes"])
def test_a_license_has_to_be_given(license: str, file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="names no license"):
        vidgan.save_pretrained(file, tmp_path / "model", license)
    assert not (tmp_path / "model").exists()


def test_nothing_is_written_over(file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        vidgan.save_pretrained(file, tmp_path, "mit")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_classes_are_called_stays_text(tmp_path: Path) -> None:
    from dataclasses import replace

    from vidgan.sampling.storage import save_generator
    from vidgan.sharing.hub import model_card

    generator = vidgan.load_generator(saved_generator("pvgan-projection", tmp_path))
    names = ("<script>", "a\n## Scores", "---")
    path = tmp_path / "odd.safetensors"
    save_generator(path, generator, replace(card_of(generator), class_names=names))
    text = model_card(path, "mit", [])
    assert "<script>" not in text
    assert text.count("\n## Scores") == 1


THERE_AND_BACK = """
import sys, vidgan
from vidgan.errors import UserError
from vidgan.sharing.hub import pull
print(vidgan.push_to_hub(sys.argv[1], "me/mine", "mit"))
print(pull("me/mine", "mine"))
print(vidgan.sample_latents(vidgan.load_generator("me/mine"), [0]).shape)
try:
    pull("me/gone", "gone")
except UserError as error:
    print(error)
"""


@pytest.mark.slow
def test_push_and_pull_by_the_library_of_the_hub(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with hub_server() as (address, kept):
        # The library reads these variables when it is imported.
        own = {
            "PYTHONPATH": str(ROOT / "src"),
            "HF_ENDPOINT": address,
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": "hf_of_a_test",
            "HF_HUB_DISABLE_XET": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", THERE_AND_BACK, str(file)],
            capture_output=True,
            text=True,
            env={**os.environ, **own},
            cwd=tmp_path,
            check=True,
        )
    pushed, pulled, shape, error = done.stdout.splitlines()
    assert pushed.startswith(f"{address}/me/mine/commit/")
    assert pulled == "mine"
    assert shape == "torch.Size([1, 7])"
    assert error.startswith("me/gone cannot be fetched from the hub: ")
    assert not (tmp_path / "gone").exists()
    assert sorted(kept) == ["README.md", "config.json", HUB_FILE]
    assert (tmp_path / "mine" / HUB_FILE).read_bytes() == kept[HUB_FILE]
    assert (tmp_path / "mine" / "README.md").read_bytes() == kept["README.md"]
    first, again = vidgan.load_generator(file), vidgan.from_pretrained(tmp_path / "mine")
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_verbs_name_what_is_missing(
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert cli.run(["pull", "me/mine"]) == 2
    assert "the extra 'hub'" in capsys.readouterr().err
    assert cli.run(["push", str(file), "me/mine", "--license", "mit"]) == 2
    assert "the extra 'hub'" in capsys.readouterr().err
    assert cli.run(["push", str(file), "me/mine", "--license", "mit", "--dry-run"]) == 0
    assert (tmp_path / "mine" / HUB_FILE).is_file()
    with pytest.raises(UserError, match="which has no revisions"):
        vidgan.from_pretrained(tmp_path / "mine", revision="old")


@pytest.mark.parametrize("repository", ["bad", "../../evil", "a/b/c", "me/", ""])
def test_a_push_needs_an_owner_and_a_name(
    repository: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["push", "zoo:shapes", repository, "--license", "mit", "--dry-run"]) == 2
    assert not list(tmp_path.iterdir())
