"""The page of `vidgan explore` in Chromium: two generators, films of one's own, the keyboard."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from explorer_server import explorer
from generator_files import saved_generator
from live_page import KEPT, LEVELS, READY, Opened, open_page

import vidgan
from vidgan.sampling.generate import labels_for_seeds
from vidgan.video import write_mp4

pytestmark = pytest.mark.web

OTHER = "mocogan"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two generators, a film of the first, and a file that is none."""
    folder = tmp_path_factory.mktemp("explore")
    shutil.copytree(KEPT, folder / "onnxruntime-web" / KEPT.name)
    generator = vidgan.load_generator(saved_generator("pvgan-projection", folder))
    saved_generator(OTHER, folder)
    clip = vidgan.sample_clips(generator, vidgan.sample_latents(generator, [6]), 2)[0]
    write_mp4(folder / "own.mp4", clip, 8.0, lossless=True)
    (folder / "text.mp4").write_bytes(b"no film")
    return folder


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    words = [str(place / f"{name}.safetensors") for name in ("pvgan-projection", OTHER)]
    with explorer(*words, cache=place) as running:
        yield running.address


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Opened]:
    yield from open_page(browser, address)


def own_clip(place: Path, seed: int, name: str = "pvgan-projection") -> torch.Tensor:
    generator = vidgan.load_generator(place / f"{name}.safetensors")
    labels = labels_for_seeds([seed], generator.num_classes)
    return vidgan.sample_clips(generator, vidgan.sample_latents(generator, [seed]), labels)[0]


def projected(opened: Opened, film: Path) -> str:
    """Project a film and return the verdict."""
    opened.page.set_input_files("#own-clip", str(film))
    opened.page.select_option("#own-class", "2")
    opened.page.click("#project")
    opened.page.wait_for_selector("#projected:not([hidden])")
    return str(opened.page.inner_text("#verdict").lower())


def test_the_generator_runs_in_the_browser_with_threads(opened: Opened, place: Path) -> None:
    assert opened.page.evaluate("() => self.crossOriginIsolated")
    opened.set("#seed", "3")
    assert opened.shows(own_clip(place, 3))
    assert not [url for url in opened.requests if "/api/" in url]


def test_another_generator_stands_beside_it(opened: Opened, place: Path) -> None:
    opened.page.click("#play")
    opened.set("#seed", "5")
    opened.page.select_option("#rival", "1")
    opened.page.wait_for_function(
        f"() => document.querySelector('#rival-note').textContent.startsWith('{OTHER}')"
    )
    opened.set("#scrubber", "2")
    wanted = own_clip(place, 5, OTHER)[:, 2]
    shown = opened.pixels("#screen-b")
    scale = shown.shape[1] // wanted.shape[1]
    found = shown[:, scale // 2 :: scale, scale // 2 :: scale]
    assert int((found.int() - wanted.int()).abs().max()) <= LEVELS
    assert opened.shows(own_clip(place, 5))
    opened.page.select_option("#rival", "")
    assert not opened.page.is_visible("#screen-b")


def test_a_chosen_generator_gets_a_page_whose_clips_the_server_makes(
    opened: Opened, place: Path
) -> None:
    opened.page.select_option("#shown", "1")
    opened.page.wait_for_url("**/?model=1")
    opened.page.wait_for_selector(READY)
    opened.set("#seed", "4")
    assert opened.shows(own_clip(place, 4, OTHER))
    opened.set("#motion", "9")
    assert not opened.shows(own_clip(place, 4, OTHER))


def test_a_film_is_projected_explored_and_saved(
    opened: Opened, place: Path, tmp_path: Path
) -> None:
    assert projected(opened, place / "own.mp4") == "recovered"
    assert float(opened.page.inner_text("#psnr-found")) > 30
    opened.page.click("#explore-found")
    assert opened.page.inner_text("#caption") == "Projected clip, class class 2"
    found = opened.frames()
    generator = vidgan.load_generator(place / "pvgan-projection.safetensors")
    target = vidgan.sample_clips(generator, vidgan.sample_latents(generator, [6]), 2)[0]
    error = float((found.float() - target.float()).square().mean())
    assert 10 * torch.tensor(255**2 / error).log10() > 30
    with opened.page.expect_download() as download:
        opened.page.click("#save-latent")
    download.value.save_as(tmp_path / "latent.json")
    latent = torch.tensor([json.loads((tmp_path / "latent.json").read_text())["latent"]])
    assert opened.shows(vidgan.sample_clips(generator, latent, 2)[0])
    opened.set("#seed", "1")
    assert opened.shows(own_clip(place, 1))


def test_what_is_no_film_is_told(opened: Opened, place: Path) -> None:
    opened.page.click("#project")
    opened.page.get_by_text("Choose a video first.").wait_for()
    opened.page.set_input_files("#own-clip", str(place / "text.mp4"))
    opened.page.click("#project")
    opened.page.get_by_text("Not projected: the clip:").wait_for()
    assert opened.page.is_visible("#project")


def test_two_tabs_at_the_same_time(browser: Any, address: str, place: Path) -> None:
    for first in open_page(browser, address):
        for second in open_page(browser, address):
            for one in (first, second):
                one.page.set_input_files("#own-clip", str(place / "own.mp4"))
                one.page.click("#project")
            first.set("#seed", "2")
            for one in (first, second):
                one.page.wait_for_selector("#projected:not([hidden])")
                assert one.page.inner_text("#verdict").lower() == "recovered"
            assert first.shows(own_clip(place, 2))
            assert second.shows(own_clip(place, 0))


def test_a_projection_is_cancelled(opened: Opened, place: Path) -> None:
    opened.page.set_input_files("#own-clip", str(place / "own.mp4"))
    opened.page.click("#project")
    opened.page.wait_for_function(
        """() => /^[0-9]+ %, [0-9]+ s/.test(document.querySelector("#project-clock").textContent)"""
    )
    opened.page.click("#cancel")
    opened.page.get_by_text("Cancelled.").wait_for()
    assert opened.page.inner_text("#project-clock") == ""
    assert projected(opened, place / "own.mp4") == "recovered"


def test_the_keyboard_reaches_everything(opened: Opened, place: Path) -> None:
    opened.page.set_input_files("#own-clip", str(place / "own.mp4"))
    reached = []
    for _ in range(80):
        opened.page.keyboard.press("Tab")
        name = opened.page.evaluate("() => document.activeElement.id")
        reached.append(name)
        if name == "project":
            break
    assert {"play", "scrubber", "shown", "rival", "seed", "weight", "own-clip"} <= set(reached)
    opened.page.keyboard.press("Enter")
    opened.page.wait_for_selector("#projected:not([hidden])")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(browser: Any, address: str, place: Path, scheme: str) -> None:
    for opened in open_page(browser, address, color_scheme=scheme):
        opened.page.select_option("#rival", "1")
        projected(opened, place / "own.mp4")
        opened.page.wait_for_timeout(500)
        opened.check_access()


def test_without_the_runtime_the_server_makes_all_clips(
    browser: Any, place: Path, tmp_path: Path
) -> None:
    with explorer(str(place / "pvgan-projection.safetensors"), cache=tmp_path) as running:
        for opened in open_page(browser, running.address):
            opened.set("#seed", "8")
            assert opened.shows(own_clip(place, 8))
            assert [url for url in opened.requests if "/api/clip" in url]
