"""The whole way from nothing to a page, on a small scale."""

import json

import pytest

from vidgan.comparing.demo import run_demo
from vidgan.errors import UserError
from vidgan.video import probe

TINY = [
    "training.total_clips=256",
    "model.channels=[8, 8, 8]",
    "model.discriminator_channels=[8, 8]",
    "training.sample_every=20",
    "training.checkpoint_every=20",
]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["myrun"], "'myrun' is not a setting"),
        (["training.batch_size=6"], "does not split into groups of 4 clips"),
        (["data.resolution=17"], "17"),
        (["run=elsewhere"], "set the folder with --out"),
        (["data=my_clips"], "leave run= and data= out"),
        (["model=vgan"], "batch norm"),
    ],
)
def test_wrong_words_are_told_before_anything_is_rendered(tmp_path, words, sentence):
    said: list[str] = []
    with pytest.raises(UserError, match=sentence):
        run_demo(tmp_path / "demo", words, None, said.append)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds other files"):
        run_demo(tmp_path / "other", [], None, said.append)
    assert not said
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.slow
def test_demo_leaves_a_page_clips_a_walk_and_a_record_and_goes_on(tmp_path):
    out = tmp_path / "demo"
    said: list[str] = []
    # Few videos, but enough for a judge that passes its gate.
    record = run_demo(out, TINY, tmp_path / "judges", said.append, num_videos=704)

    page = (out / "index.html").read_text(encoding="utf-8")
    assert "data:video/mp4;base64," in page
    assert "http://" not in page.replace("http://www.w3.org/", "")
    for name in ("samples/classes.mp4", "interpolation.mp4"):
        video = probe(out / name)
        assert (video.codec, video.pixel_format) == ("h264", "yuv420p")
    assert (out / "interpolation.png").exists()
    (saved,) = (out / "evals").glob("*.json")
    assert json.loads(saved.read_text()) == record.without_clips().to_dict()
    assert record.warnings is not None
    assert {"floor", "controls"} <= set(json.dumps(record.to_dict()).replace('"', " ").split())

    # The same call finds everything done.
    weights = sorted((out / "checkpoints").iterdir())
    assert run_demo(out, TINY, tmp_path / "judges", said.append, num_videos=704).scores
    assert sorted((out / "checkpoints").iterdir()) == weights
