"""The verb `data faces`: what it prints, its page, and its mistakes."""

import json
from pathlib import Path

import pytest

from vidgan.cli import main as cli

pytest.importorskip("cv2", reason="needs the extra faces")

from face_films import empty, talking, write_film

Capture = pytest.CaptureFixture[str]

WORDS = ["faces.width=160", "align.size=64", "--workers", "0"]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    scenes = (talking("one", 1, 34, 7), empty("none", 40, 2), talking("two", 2, 50, 8))
    write_film(folder / "a <b>.mp4", scenes)
    (folder / "broken.mp4").write_bytes(b"no film")
    return folder


def test_verb_makes_clips_and_a_page(films: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert cli.run(["data", "faces", str(films), str(out), *WORDS]) == 0
    printed = capsys.readouterr().out
    assert "2 clips of one person" in printed
    assert "'broken.mp4': cannot be read as video" in printed
    assert f"page: {out / 'index.html'}" in printed
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "a &lt;b&gt;.mp4" in page
    assert page.count("data:image/jpeg;base64,") == 1
    assert "align.size=64" in page
    assert cli.run(["data", "faces", str(films), str(out), *WORDS, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["num_clips"] == 2
    assert report["lengths"]["34-39"] == 1


def test_mistakes_are_one_sentence(films: Path, tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "out")
    for words, message in (
        ([str(tmp_path / "nowhere"), out], "there is no folder"),
        ([str(films), out, "shots.treshold=1"], "did you mean shots.threshold?"),
        ([str(films), out, "align.size=301"], "align.size=301 must be even"),
        ([str(films), out, "landmarks.backend=onnx"], "landmarks.backend=onnx needs"),
    ):
        assert cli.run(["data", "faces", *words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_films_without_faces_are_exit_code_2(tmp_path: Path, capsys: Capture) -> None:
    write_film(tmp_path / "films" / "a.mp4", (empty("none", 40, 2),))
    words = ["data", "faces", str(tmp_path / "films"), str(tmp_path / "out"), *WORDS]
    assert cli.run(words) == 2
    captured = capsys.readouterr()
    assert "-1 no face" in captured.out
    assert "no film in" in captured.err
    assert (tmp_path / "out" / "index.html").is_file()
