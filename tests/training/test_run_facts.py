"""What a page of many systems shows of a run."""

from pathlib import Path

import torch

from vidgan.training.run_folder import FILM_WIDTH, media_of
from vidgan.video import probe, read_frames, write_mp4


def film(run: Path, step: int, width: int) -> Path:
    """Samples of a run: blocks of 4 px of one brightness each."""
    rng = torch.Generator().manual_seed(step)
    blocks = torch.randint(0, 256, (1, 3, 8, width // 4), generator=rng, dtype=torch.uint8)
    clip = blocks.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3).expand(3, -1, -1, -1)
    path = run / "samples" / f"step-{step}.mp4"
    path.parent.mkdir(exist_ok=True)
    write_mp4(path, clip, 5.0, quality=0)
    return path


def test_films_are_shown_as_they_are_or_no_wider_than_the_page(tmp_path: Path) -> None:
    narrow = film(tmp_path, 1, FILM_WIDTH)
    (medium,) = media_of(tmp_path)
    assert medium["content"] == narrow.read_bytes()

    wide = film(tmp_path, 2, 2 * FILM_WIDTH + 8)  # the newest samples are shown
    (medium,) = media_of(tmp_path)
    assert medium["title"] == "Samples at step 2"
    shown = tmp_path / "shown.mp4"
    shown.write_bytes(medium["content"])
    found = probe(shown)
    assert (found.width, found.height, found.num_frames, found.fps) == (268, 10, 3, 5.0)
    blocks = read_frames(wide).clip[:, :, :30, :804].float().reshape(3, 3, 10, 3, 268, 3)
    assert (read_frames(shown).clip - blocks.mean(dim=(3, 5))).abs().mean() < 6
