"""Parts of the live page that need no browser."""

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor

import vidgan
from vidgan.cli import main as cli
from vidgan.core.randomness import derive_seed, keyed_rng
from vidgan.errors import UserError
from vidgan.models.base import Generator
from vidgan.report.explorer import LivePage, live_page
from vidgan.sampling.generate import latent_path, truncate
from vidgan.sharing import runtime
from vidgan.sharing.directions import find_directions

SCRIPTS = Path(vidgan.__file__).parent / "report" / "explorer_page"

ASKED = """
const result = {
  seeds: [["7", "'latent'", "'content'"], ["-12345678901234567890", "'" + "a".repeat(300) + "'"]]
    .map((key) => deriveSeed(...key).toString()),
  labels: [0, 1, 2, -3].map((seed) => drawLabel(BigInt(seed), 16)),
  normals: [1, 3, 15, 16, 17, 40, 128, 1000]
    .map((count) => [...randn(deriveSeed("7", "'x'"), count)]),
  truncated: [...truncate(randn(5n, 40), 0.7)],
  slerp: [...between(randn(5n, 40), randn(6n, 40), 0.3, "slerp")],
  linear: [...between(randn(5n, 40), randn(6n, 40), 0.3, "linear")],
};
console.log(JSON.stringify(result));
"""


def test_random_numbers_of_the_page_are_those_of_the_package(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; make test-web looks at the same in a browser")
    script = tmp_path / "ask.js"
    script.write_text((SCRIPTS / "randomness.js").read_text(encoding="utf-8") + ASKED)
    done = subprocess.run([node, str(script)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    keys = ((7, "latent", "content"), (-12345678901234567890, "a" * 300))
    assert [int(seed) for seed in found["seeds"]] == [derive_seed(*key) for key in keys]
    assert found["labels"] == [derive_seed(seed, "label") % 16 for seed in (0, 1, 2, -3)]

    def check(numbers: list[float], expected: Tensor) -> None:
        torch.testing.assert_close(torch.tensor(numbers), expected, rtol=1e-6, atol=1e-6)

    for numbers in found["normals"]:
        check(numbers, torch.randn(len(numbers), generator=keyed_rng(7, "x")))
    first, last = (torch.randn(40, generator=torch.Generator().manual_seed(s)) for s in (5, 6))
    check(found["truncated"], truncate(first, 0.7))
    for mode in ("linear", "slerp"):
        check(found[mode], latent_path(first, last, 11, mode)[3])


class TwoPatterns(Generator):
    """Clips that are a sum of two pictures, weighted by the first two numbers of the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.like = torch.nn.Parameter(torch.zeros(()))

    def latent_dim(self, num_frames: int | None = None) -> int:
        return 6

    def parts(
        self,
        latent: Tensor,
        labels: Tensor | None = None,
        context: Tensor | None = None,
        num_frames: int | None = None,
    ) -> dict[str, Tensor]:
        clip = torch.zeros(len(latent), 1, 2, 4, 4)
        clip[..., :2, :] += 0.02 * latent[:, 0, None, None, None, None]
        clip[..., 2:, :] += 0.08 * latent[:, 4, None, None, None, None]
        return {"clip": clip}


def test_directions_are_those_along_which_clips_change() -> None:
    found = find_directions(TwoPatterns(), count=2)
    # 512 latents tell directions apart to about 1 / sqrt(512).
    torch.testing.assert_close(found.latents.abs().argmax(dim=1), torch.tensor([4, 0]))
    assert bool((found.latents.max(dim=1).values > 0.98).all())
    torch.testing.assert_close(found.latents.norm(dim=1), torch.ones(2))
    # Variances 0.08**2 and 0.02**2; levels of bytes blur the smaller one a little.
    torch.testing.assert_close(found.shares, torch.tensor([16 / 17, 1 / 17]), rtol=0, atol=0.02)
    assert torch.equal(find_directions(TwoPatterns(), count=2).latents, found.latents)


PAGE = LivePage(
    title="</script><b>bold",
    source="it's",
    facts=["<i>"],
    fps=8.0,
    num_frames=4,
    asked_frames=None,
    classes=["</script><img src=x onerror=alert(1)>"],
    latent_length=5,
    parts=[],
    truncation=True,
    directions=[{"values": [0.0] * 5, "share": 0.5}],
    context=None,
    context_kind="frames",
    enlarge=2,
    version="0",
    runtime="0",
    model=b"model",
    library=b"library",
    binary=b"binary",
    server=None,
)


def test_texts_are_escaped_and_nothing_is_asked_of_a_server() -> None:
    page = live_page(PAGE)
    assert "<b>bold" not in page
    assert "<img" not in page
    assert page.count("</script>") == page.count("<script")
    assert not re.search(r"https?://", page)
    found = re.search(r'id="about">(.*?)</script>', page, re.DOTALL)
    assert found
    about = json.loads(found[1])
    assert about["classes"] == PAGE["classes"]
    assert about["source"] == '"it\'s"'


def test_an_unknown_archive_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))
    archive = tmp_path / "other.tgz"
    archive.write_bytes(b"something else")
    assert cli.run(["web-runtime", str(archive)]) == 2
    assert "its SHA-512 is another one" in capsys.readouterr().err
    assert cli.run(["web-runtime", str(tmp_path / "gone.tgz")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.run(["web-runtime"]) == 2
    assert "npm" in capsys.readouterr().err
    with pytest.raises(UserError, match="vidgan web-runtime"):
        runtime.read_runtime()
    for name in runtime.MEMBERS:
        damaged = runtime.runtime_folder() / f"{name}.gz"
        damaged.parent.mkdir(parents=True, exist_ok=True)
        damaged.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(UserError, match="is damaged"):
        runtime.read_runtime()
