"""The live page in Chromium: the same clips as Python, every control, nothing from outside."""

import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from generator_files import saved_generator
from live_page import KEPT, SECONDS, Opened, open_page
from PIL import Image

import vidgan
from vidgan.sampling.generate import labels_for_seeds, latent_path
from vidgan.sharing.directions import find_directions
from vidgan.sharing.runtime import runtime_folder

pytestmark = pytest.mark.web


def page_of(name: str, folder: Path) -> tuple[Any, Path]:
    file = saved_generator(name, folder)
    shutil.copytree(KEPT, runtime_folder(), dirs_exist_ok=True)
    return vidgan.load_generator(file), vidgan.export(file, folder / f"{name}.html").path


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    return page_of("pvgan-projection", tmp_path_factory.mktemp("classes"))


@pytest.fixture
def opened(browser: Any, classes: tuple[Any, Path]) -> Iterator[Opened]:
    yield from open_page(browser, classes[1].as_uri())


def clip_of(generator: Any, latents: torch.Tensor, label: int | None, **more: Any) -> torch.Tensor:
    return vidgan.sample_clips(generator, latents, label, **more)[0]


def test_seeds_and_classes_make_the_clips_of_python(
    opened: Opened, classes: tuple[Any, Path]
) -> None:
    generator, _ = classes
    for seed in (3, -12, 123456789012):
        opened.set("#seed", str(seed))
        label = labels_for_seeds([seed], 3)
        assert opened.shows(clip_of(generator, vidgan.sample_latents(generator, [seed]), label))
    opened.page.select_option("#class", "2")
    latents = vidgan.sample_latents(generator, [123456789012])
    assert opened.shows(clip_of(generator, latents, 2))
    assert not opened.shows(clip_of(generator, latents, 1))
    opened.set("#seed", "no number")
    assert opened.page.get_attribute("#seed", "aria-invalid") == "true"


def test_mix_and_walk(opened: Opened, classes: tuple[Any, Path]) -> None:
    generator, _ = classes
    opened.set("#other", "8")
    first, last = vidgan.sample_latents(generator, [0, 8])
    label = labels_for_seeds([0], 3)
    for mode in ("linear", "slerp"):
        opened.page.select_option("#mode", mode)
        opened.set("#weight", "40")
        latents = latent_path(first, last, 101, mode)[40:41]
        assert opened.shows(clip_of(generator, latents, label)), mode
    opened.page.click("#walk")
    opened.page.wait_for_function("() => document.querySelector('#weight').value > 45")
    opened.page.wait_for_function("() => document.querySelector('#weight').value < 40")
    opened.page.click("#walk")
    assert opened.page.get_attribute("#walk", "aria-pressed") == "false"


def test_directions_and_the_lines_of_python(opened: Opened, classes: tuple[Any, Path]) -> None:
    generator, _ = classes
    opened.set("#seed", "4")
    opened.set("#other", "5")
    opened.set("#weight", "25")
    opened.set("#direction-1", "2")
    label = labels_for_seeds([4], 3)
    first, last = vidgan.sample_latents(generator, [4, 5])
    latents = latent_path(first, last, 101)[25:26] + 2 * find_directions(generator).latents[1]
    assert opened.shows(clip_of(generator, latents, label))

    lines = opened.page.inner_text("#code").splitlines()
    names: dict[str, Any] = {"generator": generator}
    kept = [x for x in lines if not x.startswith(("generator =", "vidgan.save_video"))]
    exec("\n".join(kept), names)
    assert opened.shows(names["clip"])
    opened.page.click("#level")
    assert opened.shows(clip_of(generator, latent_path(first, last, 101)[25:26], label))


def test_saved_files_hold_the_clip(opened: Opened, tmp_path: Path) -> None:
    opened.set("#seed", "6")
    clip = opened.frames()
    saved = {}
    for kind in ("gif", "png", "film"):
        with opened.page.expect_download(timeout=SECONDS) as download:
            opened.page.click(f"#save-{kind}")
        saved[kind] = tmp_path / download.value.suggested_filename
        download.value.save_as(saved[kind])
    gif = Image.open(saved["gif"])
    assert gif.n_frames == clip.shape[1]
    scale = gif.width // clip.shape[-1]
    for t in range(gif.n_frames):
        gif.seek(t)
        frame = torch.frombuffer(bytearray(gif.convert("RGB").tobytes()), dtype=torch.uint8)
        frame = frame.reshape(gif.height, gif.width, 3)[::scale, ::scale].permute(2, 0, 1)
        # 256 colours stand for all of the clip, which is noise of an untrained generator.
        assert float((frame.float() - clip[:, t].float()).abs().mean()) < 8
    picture = Image.open(BytesIO(saved["png"].read_bytes()))
    assert picture.height == scale * clip.shape[-2]
    assert saved["film"].suffix == ".webm"
    assert saved["film"].read_bytes()[:4] == bytes.fromhex("1a45dfa3")  # EBML


def test_keys_and_neighbours_choose_seeds(opened: Opened) -> None:
    opened.page.keyboard.press("ArrowRight")
    assert opened.page.input_value("#seed") == "1"
    opened.page.keyboard.press(" ")
    assert opened.page.inner_text("#play") == "Play"
    opened.page.wait_for_function(
        "() => document.querySelectorAll('.tile')[2].innerText.startsWith('4')"
    )
    opened.page.locator(".tile").nth(2).click()
    assert opened.page.input_value("#seed") == "4"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(browser: Any, classes: tuple[Any, Path], scheme: str) -> None:
    for opened in open_page(browser, classes[1].as_uri(), color_scheme=scheme):
        opened.page.wait_for_timeout(500)
        opened.check_access()


def test_motion_has_a_seed_of_its_own(browser: Any, tmp_path: Path) -> None:
    generator, path = page_of("mocogan", tmp_path)
    for opened in open_page(browser, path.as_uri()):
        opened.set("#seed", "2")
        opened.set("#motion", "7")
        latents, moving = vidgan.sample_latents(generator, [2, 7])
        for name in generator.motion_parts:
            part = generator.latent_parts[name]
            latents[part] = moving[part]
        assert opened.shows(clip_of(generator, latents[None], None))


def test_a_dropped_picture_is_continued(browser: Any, tmp_path: Path) -> None:
    generator, path = page_of("hrvgan-predict", tmp_path)
    red = tmp_path / "red.png"
    Image.new("RGB", (64, 48), (200, 30, 10)).save(red)
    colour = torch.tensor([200, 30, 10]).byte()[:, None, None, None]
    context = colour.expand(3, generator.context_frames, 16, 16)
    for opened in open_page(browser, path.as_uri()):
        stand_in = opened.frames()
        opened.page.set_input_files("#file", str(red))
        opened.page.get_by_text("Given: red.png").wait_for()
        label = labels_for_seeds([0], 3)
        latents = vidgan.sample_latents(generator, [0])
        made = clip_of(generator, latents, label, context=context[None])
        assert opened.shows(torch.cat([context, made], dim=1))
        assert not torch.equal(stand_in, opened.frames())
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(b"no film")
        opened.page.set_input_files("#file", str(broken))
        opened.page.get_by_text("broken.mp4 cannot be used").wait_for()


def test_truncation_is_that_of_python(browser: Any, tmp_path: Path) -> None:
    generator, path = page_of("dvdgan", tmp_path)
    for opened in open_page(browser, path.as_uri()):
        opened.set("#truncation", "0.5")
        latents = vidgan.sample_latents(generator, [0])
        assert opened.shows(clip_of(generator, latents, None, truncation=0.5))
