"""Every verb speaks JSON, one document on stdout and nothing else; colour is for terminals."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vidgan.cli import main as cli
from vidgan.cli.words import flags_of

WITHOUT_JSON = {
    "completion": "prints a shell script",
    "explore": "prints the address of its page, and serves",
}
"""Verbs without --json, with the reason."""

SETTINGS = """
model: {name: pvgan, channels: [8, 8]}
data: {resolution: 8, frames: 4}
training:
  {total_clips: 16, stable_clips: 0, fade_clips: 0, batch_size: 8, log_every: 1, sample_every: 0,
   num_samples: 4, device: cpu, threads: 1}
"""

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("name", list(cli.VERBS))
def test_every_verb_has_json_or_a_reason(name: str) -> None:
    assert ("json" in flags_of(cli.load_verb(name))) != (name in WITHOUT_JSON)


CALLS = [
    "data motions videos --videos 24 --size 8 --frames 4 --objects disc --motions left,right",
    "data check videos",
    "data build videos packed data.resolution=8 data.frames=4",
    "data export packed shards",
    "plan small.yaml data=videos --device h100",
    "train small.yaml data=videos --dry-run",
    "train small.yaml data=videos run=runs/a",
    "sample runs/a grid.png --num 4",
    "interpolate runs/a --steps 2",
    "report runs/a",
    "evaluate --list",
    "evaluate --show stswd protocol.num_clips=64",
    "export runs/a g.safetensors",
    "push runs/a me/made --license mit --dry-run",
    "weights list",
    "models",
    "models pvgan",
    "presets cpu",
    "zoo",
    "zoo shapes",
    "doctor",
    "doctor runs/a",
    "doctor --diff runs/a runs/a",
]
"""One after the other, from videos to a run and what is made of it."""


def test_stdout_is_one_json_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "small.yaml").write_text(SETTINGS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))
    said: dict[str, Any] = {}
    for call in CALLS:
        capsys.readouterr()
        code = cli.run([*call.split(), "--json"])
        output = capsys.readouterr()
        assert code == 0, (call, output.err)
        said[call] = json.loads(output.out)
    assert said["train small.yaml data=videos run=runs/a"]["out"] == "runs/a"
    assert said["train small.yaml data=videos --dry-run"]["model"]["name"] == "pvgan"
    assert {row["name"] for row in said["evaluate --list"]} >= {"stswd", "own-c3d"}
    assert said["evaluate --show stswd protocol.num_clips=64"]["num_clips"] == 64
    assert said["push runs/a me/made --license mit --dry-run"] == {"out": "made"}
    assert Path(said["report runs/a"]["out"]).is_file()


def terminal(words: list[str], **variables: str) -> bytes:
    """What a call writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", **variables}
    call = [sys.executable, "-m", "vidgan", *words]
    child = subprocess.Popen(call, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 65536):
            written += chunk
    except OSError:
        # Linux says so when the other end is closed.
        pass
    os.close(ours)
    child.wait()
    return written


def test_colour_is_for_terminals_and_not_against_their_users_will() -> None:
    assert b"\x1b[" in terminal(["presets", "--help"])
    assert b"\x1b[" not in terminal(["presets", "--help"], NO_COLOR="1")
    call = [sys.executable, "-m", "vidgan", "presets", "--jsno"]
    variables = {**os.environ, "TERM": "xterm"}
    done = subprocess.run(call, capture_output=True, env=variables, check=False)
    assert done.returncode == 2
    assert b"\x1b[" not in done.stdout + done.stderr
