"""The page of a run in Chromium: samples through time, the keyboard, axe-core."""

from typing import Any

import pytest
import torch
from live_page import Opened, open_page

from vidgan.report.page import Medium, RunPage, run_page
from vidgan.video import write_mp4

pytestmark = pytest.mark.web

STEPS = (10, 20, 30)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run")

    def medium(title: str, grey: int, **more: Any) -> Medium:
        file = folder / f"{grey}.mp4"
        write_mp4(file, torch.full((3, 4, 32, 32), grey).byte(), 8.0)
        return {"title": title, "mime": "video/mp4", "content": file.read_bytes(), **more}  # type: ignore[typeddict-item]

    rows = [
        {"step": s, "level": s // 20, "alpha": 0.5 + (s % 20) / 40, "loss/a": float(s)}
        for s in range(31)
    ]
    page: RunPage = {
        "title": "run",
        "status": "done",
        "progress": {"step": 30, "clips_seen": 300, "total_clips": 300},
        "log": rows,
        "doctor": {"verdict": "healthy", "step": 30, "num_looks": 3},
        "settings": {"seed": 3},
        "sources": {"seed": "given"},
        "environment": {"torch": "2"},
        "command": "vidgan train",
        "written_at": 1.7e9,
        "media": [
            medium("Generated clips, step 30", 200, step=30),
            medium("Real clips of the same classes", 90),
            medium("Step 10", 20, small=True, step=10),
            medium("Step 20", 110, small=True, step=20),
        ],
    }
    path = folder / "index.html"
    path.write_text(run_page(page), encoding="utf-8")
    return path.as_uri()


def level(opened: Opened) -> int:
    """Grey of the video on show."""
    opened.page.wait_for_function(
        "() => { const v = document.querySelector('video'); return v.readyState > 1 && !v.seeking }"
    )
    found: int = opened.page.evaluate(
        """() => { const c = document.createElement("canvas"); c.width = c.height = 8;
        const pen = c.getContext("2d"); pen.drawImage(document.querySelector("video"), 0, 0, 8, 8);
        return pen.getImageData(4, 4, 1, 1).data[0] }"""
    )
    return found


def test_a_slider_shows_samples_through_time(browser: Any, address: str) -> None:
    for opened in open_page(browser, address, "main"):
        page = opened.page
        assert not page.is_visible(".history")
        assert page.inner_text("#time-step") == "step 30"
        for index, grey in enumerate((20, 110, 200)):
            page.locator("#time").fill(str(index))
            assert page.inner_text("#time-step") == f"step {STEPS[index]}"
            assert page.inner_text("figure h3") == f"Generated clips, step {STEPS[index]}"
            assert abs(level(opened) - grey) < 12
        page.locator("#time").focus()
        page.keyboard.press("ArrowLeft")
        assert page.inner_text("#time-step") == "step 20"
        page.click("#replay")
        page.get_by_text("step 10", exact=True).wait_for()
        page.emulate_media(media="print")
        assert page.is_visible(".history")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_accessible(browser: Any, address: str, scheme: str, width: int) -> None:
    size = {"width": width, "height": 800}
    for opened in open_page(browser, address, "main", color_scheme=scheme, viewport=size):
        opened.page.locator("summary").first.click()
        opened.check_access()
        assert opened.page.evaluate("() => document.documentElement.scrollWidth") <= width
