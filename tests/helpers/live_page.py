"""A live page in Chromium, with what it asked for and complained of."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vidgan.sharing.runtime import runtime_folder

KEPT = runtime_folder()
"""In the cache of whoever runs the tests, which tests themselves do not use."""
LEVELS = 2
READY = "body[data-ready=yes]"
SECONDS = 120_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """A page with what it asked for and complained of."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda line: self.complaints.append(line.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def frames(self) -> torch.Tensor:
        """The clip on show, uint8 `[3, T, H, W]`, once the generator has done what was asked."""
        self.page.wait_for_selector("body[data-busy=no]")
        found = self.page.evaluate(
            """() => [...document.querySelectorAll("#strip canvas")].map((c) =>
               [c.width, c.height, [...c.getContext("2d").getImageData(0, 0, c.width, c.height)
               .data]])"""
        )
        frames = [torch.tensor(data).reshape(height, width, 4) for width, height, data in found]
        return torch.stack(frames)[..., :3].permute(3, 0, 1, 2).to(torch.uint8)

    def shows(self, clip: torch.Tensor) -> bool:
        found = self.frames()
        assert found.shape == clip.shape
        return int((found.int() - clip.int()).abs().max()) <= LEVELS

    def set(self, selector: str, value: str) -> None:
        self.page.locator(selector).fill(value)

    def pixels(self, selector: str) -> torch.Tensor:
        """What a canvas shows, uint8 `[3, H, W]`."""
        width, height, data = self.page.evaluate(
            """(selector) => { const c = document.querySelector(selector);
            return [c.width, c.height,
                    [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]] }""",
            selector,
        )
        image = torch.tensor(data).reshape(height, width, 4)[..., :3]
        return image.permute(2, 0, 1).to(torch.uint8)

    def check_access(self) -> None:
        """Fail on anything that axe-core finds."""
        axe = os.environ.get("VIDGAN_AXE")
        if not axe:
            pytest.skip("VIDGAN_AXE names no axe.min.js")
        # Run from outside: the page itself takes no script.
        self.page.evaluate(Path(axe).read_text(encoding="utf-8"))
        found = self.page.evaluate("() => axe.run()")
        assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found["violations"]] == []
        assert "color-contrast" in {check["id"] for check in found["passes"]}


def open_page(browser: Any, address: str, ready: str = READY, **options: Any) -> Iterator[Opened]:
    """Open a page; in the end it must have complained of nothing and asked nobody else."""
    page = browser.new_page(**options)
    page.set_default_timeout(SECONDS)
    found = Opened(page)
    try:
        page.goto(address)
        page.wait_for_selector(ready)
        yield found
    finally:
        page.close()
    assert found.complaints == []
    own = address.rpartition("/")[0]
    outside = [url for url in found.requests if not url.startswith((own, "blob:", "data:"))]
    assert outside == []
