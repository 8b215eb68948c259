"""The metric that docs/adding-a-metric.md prints is scored and shown like one of ours."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from metric_clips import CLASSES, moving_shapes

from vidgan.errors import UserError
from vidgan.evaluation import metric as table
from vidgan.evaluation.clips import evaluate_clips
from vidgan.evaluation.protocols import changed_protocol
from vidgan.evaluation.record import format_record
from vidgan.evaluation.score import RealData
from vidgan.extractors.judge import RealClips

DOCUMENT = Path(__file__).parent.parent / "docs" / "adding-a-metric.md"


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The printed module with its printed entry point, as an installer leaves them."""
    text = DOCUMENT.read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (point,) = re.findall(r'^brightness = "(.+)"$', text, re.MULTILINE)
    assert len([line for line in code.splitlines() if line and "import" not in line]) == 10
    (tmp_path / "brightness.py").write_text(code, encoding="utf-8")
    info = tmp_path / "brightness-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brightness\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[vidgan.metrics]\nbrightness = {point}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("brightness", None)
    table.find_metric.cache_clear()


@pytest.mark.usefixtures("_installed")
def test_the_printed_metric_goes_all_the_way() -> None:
    train, heldout, fake = (moving_shapes(count, count) for count in (40, 16, 24))
    train_clips = RealClips(train.clips, train.labels, tuple(f"t{v}" for v in train.videos))
    held = RealClips(heldout.clips, heldout.labels, heldout.videos)
    words = ["metrics=[brightness,space_time_swd]", "sliced.directions=8", "num_clips=16"]
    protocol = changed_protocol("stswd", words)
    bright = fake.clips.clamp_min(200)
    record = evaluate_clips(bright, None, RealData(train_clips, held, CLASSES), protocol)
    score = record.scores["brightness"]
    assert set(score.controls) == {"noise", "mean clip", "shuffled", "frozen", "reversed"}
    # Frames in another order are as bright as before.
    assert score.controls["shuffled"] == pytest.approx(score.real)
    real_mean = train.clips.double().mean()
    assert score.value == pytest.approx(float(bright[:16].double().mean() - real_mean), abs=9)
    assert any(said.startswith("Difference of mean brightness") for said in record.warnings)
    assert "Difference of mean brightness (0 to 255) (lower is better)" in format_record(record)
    assert "brightness" in table.list_metrics()
    assert table.metric_title("brightness") == "Difference of mean brightness (0 to 255)"


def test_a_metric_that_is_not_installed_is_refused_and_never_imported() -> None:
    assert table.metric_title("brightness") == "brightness"
    for key in ("brightness", "os:system"):
        with pytest.raises(UserError, match=f"there is no metric {key}; use inception_score"):
            changed_protocol("stswd", [f"metrics=['{key}']"])
