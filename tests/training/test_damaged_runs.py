"""Run folders with damaged, odd and foreign entries: noticed, passed over, left alone."""

import os
import random
from pathlib import Path

import pytest

from vidgan.cli.main import run as run_verb
from vidgan.core.files import read_sealed_json, sha256_of, write_json_atomically, write_sealed_json
from vidgan.core.settings import to_dict
from vidgan.errors import UserError
from vidgan.models.base import Stage
from vidgan.sampling.storage import STATE_FILE, checkpoint_folder, list_checkpoints, read_pointer
from vidgan.training.checkpoint import CHECKED_FILES, SCHEMA, RunState, find_checkpoint, tidy
from vidgan.training.logs import LogFile, read_log
from vidgan.training.presets import Config, load_config, load_run_config, save_config
from vidgan.training.run_folder import check_run_folder, check_same_data

STATE = RunState(stage=Stage(level=1, frames=4, resolution=8, batch_size=2), clips_seen=24)


def checkpoint(run: Path, step: int) -> Path:
    """A checkpoint whose files hold a few bytes; finding one reads nothing but their hashes."""
    folder = checkpoint_folder(run, step)
    folder.mkdir(parents=True)
    for name in CHECKED_FILES:
        (folder / name).write_bytes(f"{name} {step}".encode())
    hashes = {name: sha256_of(folder / name) for name in sorted(CHECKED_FILES)}
    state = to_dict(STATE) | {"step": step, "arithmetic": {"device": "cpu", "threads": "2"}}
    write_sealed_json(folder / STATE_FILE, {"schema": SCHEMA, **state, "sha256": hashes})
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    checkpoint(tmp_path, 5)
    checkpoint(tmp_path, 10)
    return tmp_path


def test_settings_that_end_too_early_are_damaged_wherever_they_end(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config("cpu/quick", ["data=clips-of-no-other-test", f"run={run}"])
    save_config(run, config)
    settings = run / "config.yaml"
    whole = settings.read_bytes()
    helps = (
        f"put it back from a copy, or begin another run with its weights by init_from={run} "
        "run=FOLDER"
    )
    # What stands in the last line, the name of the preset, decides nothing.
    for end in range(0, whole.rindex(b"\n", 0, -1) + 1, 17):
        settings.write_bytes(whole[:end])
        with pytest.raises(UserError) as raised:
            load_run_config(run)
        assert str(raised.value).startswith(f"{settings} is damaged (")
        assert str(raised.value).endswith(f"): {helps}")
    settings.write_bytes(b"")
    told = f"{settings} is damaged (it lacks model, data, loss, training, best, "
    for words in (["cpu/quick", "data=clips-of-no-other-test", f"run={run}"], [str(run)]):
        assert run_verb(["train", *words]) == 2
        assert capsys.readouterr().err.startswith(f"vidgan: {told}")
    assert run_verb(["doctor", str(run)]) == 2
    captured = capsys.readouterr()
    assert f"the settings cannot be read: {told}" in captured.err
    assert f"put {settings} back from a copy" in captured.out
    settings.write_bytes(whole)
    assert load_run_config(run) == config


def test_every_flipped_bit_of_a_state_is_harmless_or_leads_to_the_one_before(run: Path) -> None:
    path = checkpoint_folder(run, 10) / STATE_FILE
    whole = path.read_bytes()
    expected = find_checkpoint(run, print)
    assert expected is not None
    assert expected.step == 10
    flips = random.Random(0).sample(range(8 * len(whole)), 400)
    outcomes = {5: 0, 10: 0}
    for flip in flips:
        data = bytearray(whole)
        data[flip // 8] ^= 1 << flip % 8
        path.write_bytes(data)
        said: list[str] = []
        found = find_checkpoint(run, said.append)
        assert found is not None
        outcomes[found.step] += 1
        if found.step == 10:
            assert found == expected
        else:
            assert f"{path.parent} is damaged" in said[0]
            assert said[1] == "step 5 is the newest undamaged checkpoint"
    assert outcomes == {5: len(flips), 10: 0}


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "3", '"x"', "{}", "[" * 100_000, '{"step": ' + "9" * 5_000 + "}", "{" * 9],
    ids=lambda text: text[:12],
)
def test_a_state_of_another_shape_is_damaged(text: str, run: Path) -> None:
    (checkpoint_folder(run, 10) / STATE_FILE).write_text(text)
    assert find_checkpoint(run, lambda _: None).step == 5


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": {}},
        {"sha256": None},
        {"sha256": {"../../../../etc/passwd": "0"}},
        {"schema": None},
        {"step": 5},
        {"stage": None},
        {"clips_seen": "24"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_sealed_state_that_cannot_be_is_damaged(change: dict[str, object], run: Path) -> None:
    path = checkpoint_folder(run, 10) / STATE_FILE
    write_sealed_json(path, read_sealed_json(path) | change)
    found = find_checkpoint(run, lambda _: None)
    assert found.step == (10 if change == {"schema": None} else 5)


def test_odd_entries_beside_checkpoints_are_passed_over(run: Path, tmp_path: Path) -> None:
    folder = run / "checkpoints"
    os.mkfifo(folder / "step-11")
    (folder / "step-12").write_text("a file")
    (folder / "step-13").symlink_to(tmp_path / "nowhere")
    (folder / "step-013").mkdir()
    (folder / f"step-{'9' * 200}").mkdir()
    (folder / "step-\N{ARABIC-INDIC DIGIT FIVE}").mkdir()
    (folder / ".tmp-x").mkdir()
    assert find_checkpoint(run, pytest.fail).step == 10
    assert list_checkpoints(run) == [5, 10]
    assert read_pointer(run, "last") is None


@pytest.mark.parametrize("name", [STATE_FILE, *sorted(CHECKED_FILES)])
@pytest.mark.parametrize("kind", ["fifo", "folder", "nothing"])
def test_something_else_where_a_file_goes_is_damage(name: str, kind: str, run: Path) -> None:
    path = checkpoint_folder(run, 10) / name
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    assert find_checkpoint(run, lambda _: None).step == 5


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_not_called_damaged(run: Path) -> None:
    path = checkpoint_folder(run, 10) / STATE_FILE
    path.chmod(0)
    with pytest.raises(UserError, match=r"state\.json may not be read"):
        find_checkpoint(run, pytest.fail)


@pytest.mark.parametrize("text", ["[]", "null", '{"step": true}', '{"step": "5"}', "9" * 5_000])
def test_a_damaged_pointer_names_no_checkpoint(text: str, run: Path) -> None:
    (run / "last.json").write_text(text)
    assert read_pointer(run, "last") is None


# ------------------------------------------------------------------------------------------------
# Logs and data


def test_every_flipped_bit_of_a_log_costs_no_more_than_its_line(tmp_path: Path) -> None:
    log = LogFile(tmp_path, 0)
    for step in range(1, 4):
        log.append({"step": step, "clips_seen": 2 * step, "alpha": 1.0, "loss": step / 3})
    whole, lines = log.path.read_bytes(), list(log.lines)
    assert read_log(log.path) == lines
    for flip in range(8 * len(whole)):
        data = bytearray(whole)
        data[flip // 8] ^= 1 << flip % 8
        log.path.write_bytes(data)
        found = read_log(log.path)
        assert len(found) >= 1
        assert all(line in lines for line in found)


def test_logs_of_earlier_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "clips_seen": 2}\n[]\nnull\n{"step": "x"}\n{"step": 2, "cl')
    assert read_log(path) == [{"step": 1, "clips_seen": 2}]


FACTS = {"clip_shape": [3, 4, 8, 8], "classes": [], "source_hash": "a", "num_clips": 5}


def test_damaged_facts_of_the_data_are_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    write_sealed_json(path, FACTS)
    whole = path.read_bytes()
    for flip in range(8 * len(whole)):
        data = bytearray(whole)
        data[flip // 8] ^= 1 << flip % 8
        path.write_bytes(data)
        said: list[str] = []
        check_same_data(tmp_path, FACTS, said.append)
        assert said == [] or "damaged" in said[0]


def test_facts_of_earlier_versions_still_count(tmp_path: Path) -> None:
    write_json_atomically(tmp_path / "data.json", FACTS)
    with pytest.raises(UserError, match="trained on classes"):
        check_same_data(tmp_path, FACTS | {"classes": ["a"]}, print)


def test_another_draw_among_the_same_videos_is_said(tmp_path: Path) -> None:
    write_sealed_json(tmp_path / "data.json", FACTS)
    said: list[str] = []
    check_same_data(tmp_path, FACTS | {"num_clips": 4}, said.append)
    assert "(5 clips then, 4 now)" in said[0]


# ------------------------------------------------------------------------------------------------
# What is ours


FOREIGN = [
    ".cache/.tmp-thesis/chapter.tex",
    ".tmp-thesis/chapter.tex",
    ".tmp-1-notes.txt",
    ".tmp-config.yaml.bak",
    "checkpoints/.tmp-x/file",
    "checkpoints/.tmp-1-step-x/file",
    "checkpoints/mine/.tmp-1-step-5/file",
    "samples/.tmp-1-film.mp4",
    "deep/checkpoints/.tmp-1-step-5/file",
    ".tmp-12345",
]
OURS = [
    ".tmp-123-config.yaml",
    ".tmp-1-log.jsonl",
    "checkpoints/.tmp-77-step-15/state.json",
    "checkpoints/.tmp-step-5/state.json",
    "samples/.tmp-9-step-10.mp4",
    "samples/.tmp-9-real-4x8.mp4",
]


def test_only_what_training_left_is_removed(run: Path) -> None:
    for name in (*FOREIGN, *OURS):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("x")
    tidy(run, find_checkpoint(run, print))
    assert [name for name in FOREIGN if not (run / name).exists()] == []
    assert [name for name in OURS if (run / name).exists()] == []
    assert list_checkpoints(run) == [5, 10]


def test_nothing_is_removed_through_a_link(run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / ".tmp-1-step-5.mp4").mkdir(parents=True)
    (run / "samples").symlink_to(elsewhere)
    (run / ".tmp-1-config.yaml").symlink_to(elsewhere)
    tidy(run, find_checkpoint(run, print))
    assert (elsewhere / ".tmp-1-step-5.mp4").exists()
    assert (run / ".tmp-1-config.yaml").is_symlink()


@pytest.mark.parametrize("name", [".git", ".cache", ".tmp-thesis", "notes.txt", ".bashrc"])
def test_a_folder_with_anything_foreign_is_no_new_run_folder(
    name: str, tmp_path: Path, tiny_run: Config
) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="holds other files"):
        check_run_folder(tiny_run)


def test_what_a_kill_at_the_start_leaves_is_no_foreign_file(
    tmp_path: Path, tiny_run: Config
) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".tmp-12-config.yaml").touch()
    check_run_folder(tiny_run)


@pytest.fixture
def tiny_run(tmp_path: Path) -> Config:
    from vidgan.training.presets import load_config

    return load_config("cpu/pvgan-motions-16x8", [f"run={tmp_path}", "data=x"])
