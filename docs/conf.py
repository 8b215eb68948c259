"""Makes a site of these pages by Sphinx: make docs. Every warning is an error there.

The pages are plain Markdown that a code host shows as well; what only a site needs (the contents at
its side, the reference of Python names) is added here while it is built.
"""

import importlib
import inspect

import vidgan

project = "vidgan"
author = "The vidgan authors"
release = version = vidgan.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"vidgan {release}"
html_show_copyright = False
html_show_sourcelink = False

myst_heading_anchors = 4
# Ranges of clips, such as [-1, 1], and names of tensors stand in docstrings as code.
default_role = "code"
autodoc_typehints = "description"
napoleon_numpy_docstring = False
# Code that names no language is a shell's.
highlight_language = "text"

CONTENTS = {
    "First steps": ["start", "your-clips", "many-devices", "troubleshooting", "faq"],
    "Guides": [
        "data",
        "datasets",
        "faces",
        "training",
        "evaluation",
        "metrics",
        "weights",
        "losses",
        "prediction",
        "comparing",
        "explore",
        "project",
        "export",
        "hub",
    ],
    "Models": ["models/*"],
    "Results": [
        "thesis",
        "systems",
        "demo",
        "recipe",
        "benchmarks",
        "scaling",
        "paper-presets",
        "peers",
        "known-bugs",
        "results/**",
    ],
    "For programs": ["python", "adding-a-model", "adding-a-metric", "adding-a-logger"],
}
"""Pages at the side of the site; one that is missing here is a warning."""


def add_contents(app, docname, source):
    """Append the contents to the first page, and its names to the Python reference."""
    if docname == root_doc:
        for caption, pages in CONTENTS.items():
            options = f":hidden:\n:glob:\n:caption: {caption}"
            lines = "\n".join(pages)
            source[0] += f"\n```{{toctree}}\n{options}\n\n{lines}\n```\n"
    if docname == "python":
        source[0] += "".join(reference_of(name) for name in vidgan.__all__)


def reference_of(name):
    """A section with the docstring of a public name."""
    found = getattr(vidgan, name)
    module = importlib.import_module(found.__module__)
    assert getattr(module, name) is found
    kind = "autoclass" if inspect.isclass(found) else "autofunction"
    return f"\n## {name}\n\n```{{eval-rst}}\n.. {kind}:: {found.__module__}.{name}\n```\n"


def setup(app):
    app.connect("source-read", add_contents)
