"""The public face of the package."""

import doctest
import inspect
import subprocess
import sys
from importlib import import_module

import pytest

import vidgan


def test_importing_vidgan_loads_neither_torch_nor_a_codec() -> None:
    code = "import sys, vidgan; print(sorted({'torch', 'numpy', 'av', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_resolves_and_is_documented() -> None:
    assert set(vidgan.__all__) == set(vidgan._HOMES)
    for name in vidgan.__all__:
        value = getattr(vidgan, name)
        assert value is getattr(import_module(vidgan._HOMES[name]), name)
        assert inspect.getdoc(value)
        assert name in dir(vidgan)
    with pytest.raises(AttributeError, match="no attribute 'sample_clip'"):
        vidgan.sample_clip  # noqa: B018


@pytest.mark.parametrize(
    "name",
    ["build_gan", "interpolate", "load_generator", "predict", "sample_clips", "sample_latents"],
)
def test_example_in_the_docstring_runs(name: str) -> None:
    function = getattr(vidgan, name)
    finder = doctest.DocTestFinder(recurse=False)
    module = import_module(function.__module__)
    examples = [t for t in finder.find(function, name, module=module) if t.examples]
    assert examples, f"{name} has no example"
    for example in examples:
        report: list[str] = []
        assert doctest.DocTestRunner().run(example, out=report.append).failed == 0, report
