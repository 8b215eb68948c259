"""Commands of the documents that need packages of extras, each on what a reader has."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path

import pytest
from document_commands import lines_that_need
from explorer_server import explorer
from hub_server import hub_server
from launching import ENVIRONMENT
from live_page import KEPT
from reader import new_reader, printed_code, run_in, typed


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_reader(tmp_path_factory.mktemp("reader"))
    printed_code(folder, "adding-a-logger", "csv_logger")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("line", lines_that_need("onnx"))
def test_a_generator_is_exported(line: str, workplace: Path) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    assert run_in(workplace, typed(workplace, line)) == 0
    assert (workplace / "mine.onnx").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("line", lines_that_need("loggers"))
def test_numbers_go_elsewhere(line: str, workplace: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    assert run_in(workplace, [*typed(workplace, line), f"run={tmp_path / 'run'}"]) == 0
    assert list((tmp_path / "run").rglob("events.out.tfevents.*"))
    assert ("csv" in line) == (tmp_path / "run" / "numbers.csv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("line", lines_that_need("explore"))
def test_a_page_is_served_until_it_is_interrupted(line: str, workplace: Path) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    with explorer(*typed(workplace, line)[1:], cache=workplace) as running:
        # Beyond this machine the token of the address is exchanged for a cookie.
        visitor = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        address = running.address.replace(running.host, "127.0.0.1")
        with visitor.open(address, timeout=60) as answer:
            assert b"<html" in answer.read()
        assert running.interrupt() == 0


@pytest.fixture(scope="module")
def hub() -> Iterator[dict[str, str]]:
    """Variables that lead the hub's library to a hub on this machine."""
    with hub_server("owner/mine") as (address, _):
        yield {"HF_ENDPOINT": address, "HF_TOKEN": "hf_of_a_test", "HF_HUB_DISABLE_XET": "1"}


@pytest.mark.slow
def test_a_generator_goes_to_the_hub_and_back(workplace: Path, hub: dict[str, str]) -> None:
    pytest.importorskip("huggingface_hub")
    lines = lines_that_need("hub")
    assert [line.split()[1] for line in lines] == ["push", "pull"]
    for line in lines:
        command = [sys.executable, "-m", "vidgan", *typed(workplace, line)]
        own = {**ENVIRONMENT, **hub, "HF_HOME": str(workplace / "home")}
        done = subprocess.run(
            command, env=own, cwd=workplace, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert (workplace / "mine" / "README.md").is_file()


@pytest.mark.web
def test_a_live_page_is_written(workplace: Path) -> None:
    fetch, *exports = lines_that_need("web")
    assert fetch == "vidgan web-runtime"
    assert run_in(workplace, typed(workplace, fetch)) == 0
    fetched = workplace / "cache" / "onnxruntime-web" / KEPT.name
    assert {path.name for path in fetched.iterdir()} == {path.name for path in KEPT.iterdir()}
    for line in exports:
        assert run_in(workplace, typed(workplace, line)) == 0
    assert "The generator runs in this browser." in (workplace / "mine.html").read_text("utf-8")
