"""Gates on the shape of the code: import levels, sizes, names of models, docs and packaging."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from vidgan.cli import main as cli
from vidgan.cli.words import flags_of
from vidgan.errors import UserError

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "vidgan"
MODULES = sorted(SOURCE.rglob("*.py"))
TEST_FILES = sorted((ROOT / "tests").rglob("*.py"))
CODE = [*MODULES, *TEST_FILES, *sorted(ROOT.glob("benchmarks/**/*.py"))]
CODE += sorted(ROOT.glob("examples/**/*.py"))

LEVELS = (
    {"errors"},
    {"core"},
    {"video"},
    {"models", "losses", "metrics"},
    {"extractors"},
    {"sampling"},
    {"data"},
    {"evaluation"},
    {"films", "report"},
    {"training"},
    {"comparing", "sharing"},
    {"cli"},
    {"__main__"},
)
"""Packages and modules directly below `vidgan`, lowest first; members of one level never import
each other."""

parsed = lru_cache(maxsize=None)(ast.parse)
"""Every gate looks at the same trees."""

PACKAGE = "__init__"
LONG_FUNCTIONS = {"train": 120}
"""Functions that read better as one flat sequence; all others have at most 60 lines of code."""


def level_of(part: str) -> int:
    for level, names in enumerate(LEVELS):
        if part in names:
            return level
    raise AssertionError(f"vidgan.{part} has no level: give it one in {Path(__file__).name}")


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_parts(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Parts of vidgan that any import statement names, inside functions too, with their lines."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: relative import; write vidgan. in full"
            names = [node.module or ""]
            if node.module == "vidgan":
                names = [f"vidgan.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("vidgan."):
                yield name.split(".")[1], node.lineno


def upward_edges(part: str, tree: ast.AST) -> list[str]:
    wrong = []
    for target, line in imported_parts(tree):
        if target == part or target.startswith("__"):
            continue
        if level_of(target) >= level_of(part):
            wrong.append(f"line {line}: vidgan.{part} imports vidgan.{target}")
    return wrong


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)


def nesting(node: ast.AST, depth: int = 0) -> int:
    """Deepest nesting of blocks below a function; `elif` counts as its `if`, inner defs again."""
    deepest = depth
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.FunctionDef):
                continue
            is_elif = name == "orelse" and isinstance(child, ast.If) and isinstance(node, ast.If)
            opens = isinstance(child, BLOCKS) and not is_elif
            deepest = max(deepest, nesting(child, depth + opens))
    return deepest


def size_faults(text: str) -> list[str]:
    lines = text.splitlines()
    faults = [f"{len(lines)} lines, at most 600"] if len(lines) > 600 else []
    code = [re.sub(r"  # (type|noqa).*", "", line) for line in lines]
    faults += [f"line {i}: over 100 columns" for i, x in enumerate(code, 1) if len(x) > 100]
    for function in functions(parsed(text)):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        length -= len((ast.get_docstring(function, clean=False) or "").splitlines())
        allowed = LONG_FUNCTIONS.get(function.name, 60)
        if length > allowed:
            faults.append(f"{function.name} has {length} lines, at most {allowed}")
        if nesting(function) > 4:
            faults.append(f"{function.name} nests {nesting(function)} deep, at most 4")
    return faults


def model_name_branches(tree: ast.AST) -> list[int]:
    """Lines that compare something called `model.name`, `model_name` or the like."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            compared = [ast.unparse(side) for side in (node.left, *node.comparators)]
            tested = any(re.search(r"\bmodel(\.name|_name|\.NAME)\b", side) for side in compared)
            literal = any(
                isinstance(s, ast.Constant) and isinstance(s.value, str)
                for s in (node.left, *node.comparators)
            )
            if tested and literal:
                lines.append(node.lineno)
    return lines


def contract_methods() -> set[str]:
    """Methods that the base classes of models document; overriding them needs no second text."""
    tree = parsed((SOURCE / "models" / "base.py").read_text(encoding="utf-8"))
    return {function.name for function in functions(tree) if ast.get_docstring(function)}


def undocumented(tree: ast.Module) -> list[str]:
    """Public modules, classes, functions and methods without a docstring of their own or their
    contract's."""
    inherited = contract_methods()
    missing = ["the module"] if tree.body and not ast.get_docstring(tree) else []
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for holder in [tree, *(c for c in classes if not c.name.startswith("_"))]:
        for node in holder.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            overload = any(ast.unparse(d).endswith("overload") for d in node.decorator_list)
            setter = any(ast.unparse(d).endswith(".setter") for d in node.decorator_list)
            known = holder is not tree and node.name in inherited
            stub = ast.unparse(node.body[-1]) == "..."
            if not (overload or setter or known or stub or ast.get_docstring(node)):
                missing.append(node.name)
    return missing


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def faults_of(paths: Iterable[Path], look: Callable[[str], Iterable[Any]]) -> list[str]:
    """What `look` finds in the texts of files, each with its file."""
    return [
        f"{relative(path)}: {fault}"
        for path in paths
        for fault in look(path.read_text(encoding="utf-8"))
    ]


def test_imports_go_down_only() -> None:
    inside = [path for path in MODULES if path.parent != SOURCE or path.stem != PACKAGE]
    for path in inside:
        assert faults_of([path], lambda text, p=path: upward_edges(part_of(p), parsed(text))) == []


def test_the_map_in_contributing_is_that_of_the_gate() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    levels = [sorted(names) for names in LEVELS if names != {"__main__"}]
    found = re.search(r"^    errors < (?:.|\n)+?cli$", text, re.MULTILINE)
    assert found
    assert [
        sorted(level.split(" | ")) for level in re.split(r"\s+<\s+", found[0].strip())
    ] == levels


def test_where_the_contributing_page_says_it_is() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    places = re.findall(r"^\| .+ \| `([\w/.]+)` \| `([\w.]+)` \|", text, re.MULTILINE)
    assert len(places) >= 5
    for file, name in places:
        tree = parsed((SOURCE / file).read_text(encoding="utf-8"))
        assert name in set(defined_names(tree)), f"{file} has no {name}"


def defined_names(tree: ast.Module) -> Iterator[str]:
    """Functions, classes and variables of a module, and methods as `Class.method`."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
            if isinstance(node, ast.ClassDef):
                yield from (
                    f"{node.name}.{m.name}" for m in node.body if isinstance(m, ast.FunctionDef)
                )
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_import_gate_sees_upward_and_sideways_edges_wherever_they_stand() -> None:
    code = "def f():\n    from vidgan.training import loop\nimport vidgan.data.loader\n"
    assert len(upward_edges("models", parsed(code))) == 2
    assert upward_edges("cli", parsed(code)) == []
    assert len(upward_edges("sampling", parsed("from vidgan import evaluation"))) == 1


def test_sizes_stay_readable() -> None:
    assert faults_of(CODE, size_faults) == []


def test_size_gate_counts_what_it_says() -> None:
    assert size_faults("x = 1\n" * 601) == ["601 lines, at most 600"]
    assert size_faults("#" * 101) == ["line 1: over 100 columns"]
    assert "at most 60" in size_faults("def f():\n" + "    x = 1\n" * 60)[0]
    documented = 'def f():\n    """A.\n\n    B.\n    """\n' + "    x = 1\n" * 59
    assert size_faults(documented) == []
    assert size_faults("def train():\n" + "    x = 1\n" * 100) == []
    deep = "def f():\n" + "".join("    " * i + "if x:\n" for i in range(1, 6)) + "    " * 6 + "y\n"
    assert size_faults(deep) == ["f nests 5 deep, at most 4"]
    chain = "def f():\n    if x:\n        y\n" + "    elif x:\n        y\n" * 9
    assert size_faults(chain) == []


def missing_imports(text: str) -> list[str]:
    """What a file imports from this package that is not there."""
    found = []
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "vidgan":
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                with suppress(ModuleNotFoundError):
                    importlib.import_module(f"{node.module}.{alias.name}")
                if not hasattr(module, alias.name):
                    found.append(f"{node.module}.{alias.name}")
    return found


def test_names_that_tests_and_scripts_import_exist() -> None:
    # Tests of extras are skipped where the extra is not installed, and would be noticed late.
    files = [path for path in CODE if path not in MODULES]
    missing = {path.name: missing_imports(path.read_text(encoding="utf-8")) for path in files}
    assert {name: found for name, found in missing.items() if found} == {}
    text = "from vidgan.errors import UserError, nothing\nfrom vidgan import video"
    assert missing_imports(text) == ["vidgan.errors.nothing"]


def test_no_branch_on_a_models_name_outside_models() -> None:
    outside = [path for path in MODULES if part_of(path) != "models"]
    assert faults_of(outside, lambda text: model_name_branches(parsed(text))) == []


def test_name_gate_sees_comparisons() -> None:
    code = "if config.model.name == 'pvgan': pass\nx = model_name in ('a', 'b')\ny = name == 'a'\n"
    assert model_name_branches(parsed(code)) == [1]
    assert model_name_branches(parsed("z = 'a' != self.model_name")) == [1]


def test_public_names_are_documented() -> None:
    assert faults_of(MODULES, lambda text: undocumented(parsed(text))) == []


def test_docstring_gate_looks_into_classes() -> None:
    code = '"""M."""\nclass A:\n    """A."""\n    def f(self): pass\n    def _g(self): pass\n'
    assert undocumented(parsed(code)) == ["f"]


def test_sources_are_ascii_and_leave_nothing_to_do() -> None:
    undone = re.compile(r"#\s*(?:TODO(?!\(#\d)|FIXME|XXX)")
    assert faults_of(CODE, lambda text: undone.findall(text)) == []
    assert [relative(path) for path in CODE if not path.read_text(encoding="utf-8").isascii()] == []


def test_version_is_the_same_everywhere() -> None:
    import vidgan

    for name in ("pyproject.toml", "CITATION.cff"):
        found = re.search(r"^version\W+([\d.]+)", (ROOT / name).read_text(), re.MULTILINE)
        assert found
        assert found[1] == vidgan.__version__


def test_command_line_help_loads_no_torch() -> None:
    code = (
        "import sys\nfrom vidgan.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'numpy', 'av'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


PRESETS = sorted(set(ROOT.glob("configs/**/*.yaml")) - set(ROOT.glob("configs/bench/*.yaml")))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]


@pytest.mark.parametrize("path", PRESETS, ids=relative)
def test_every_preset_loads(path: Path) -> None:
    from vidgan.models.base import ClipShape
    from vidgan.training.presets import load_config

    config = load_config(path.relative_to(ROOT / "configs").with_suffix("").as_posix())
    shape = ClipShape(3, config.data.frames, config.data.resolution, config.data.resolution)
    assert config.model.levels(shape)[-1] == (shape.frames, shape.height)


def commands_of(text: str) -> list[str]:
    """Commands that a Markdown text tells its reader to type, in blocks or between backticks."""
    in_blocks = re.findall(r"^(?:    |\$ )?(?:\.venv/bin/)?(vidgan [a-z].*)$", text, re.MULTILINE)
    inline = re.findall(r"`(?:\.venv/bin/)?(vidgan [a-z][^`\n]*)`", text)
    started = re.findall(r"-m (vidgan [a-z][^`\n]*)", text)
    return [command.partition("  #")[0].rstrip(" \\") for command in in_blocks + inline + started]


def unknown_flags(command: str) -> list[str]:
    """Flags of a command that its verb does not have; a verb that is not there raises."""
    name, rest = cli.find_verb(shlex.split(command)[1:])
    known = set(flags_of(cli.load_verb(name)))
    used = {word.lstrip("-").partition("=")[0] for word in rest if word.startswith("--")}
    return sorted(used - known - {"help", "trust"})


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_documented_commands_exist(path: Path) -> None:
    for command in commands_of(path.read_text(encoding="utf-8")):
        assert unknown_flags(command) == [], command


PLACES = ("src/vidgan", "", "docs", "tests", "configs")
"""Folders from which documents name files."""


def missing_paths(text: str, folder: Path) -> list[str]:
    """Files that a Markdown text links to or names between backticks and that are not there.

    Between backticks that is a path with a folder of this repository in front, and an ending.
    """
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (folder / link).exists()]
    named = re.findall(
        r"`(?:python )?([a-z_]+/[\w./-]+\.(?:py|md|yaml|json|sh))(?:[: ][^`]*)?`", text
    )
    tops = {p.name for place in PLACES for p in (ROOT / place).iterdir() if p.is_dir()}
    for name in named:
        here = name.split("/")[0] in tops
        if here and not any((ROOT / place / name).exists() for place in PLACES):
            missing.append(name)
    return missing


def missing_names(text: str) -> list[str]:
    """Names such as `vidgan.models.build_gan` between backticks that cannot be imported."""
    missing = []
    entry_points = {f"vidgan.{group}" for group in ("models", "metrics", "loggers", "landmarkers")}
    for name in re.findall(r"`(vidgan(?:\.\w+)+)(?:\([^`]*)?`", text):
        if name in entry_points:
            continue
        parts = name.split(".")
        for cut in range(len(parts), 0, -1):
            with suppress(ImportError):
                found: Any = importlib.import_module(".".join(parts[:cut]))
                break
        for attribute in parts[cut:]:
            found = getattr(found, attribute, None)
        if found is None:
            missing.append(name)
    return missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_files_and_names_in_documents_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert missing_paths(text, path.parent) == []
    assert missing_names(text) == []


def test_path_gate_sees_what_is_gone() -> None:
    text = "see [it](gone.md), `models/gone.py`, `models/base.py` and `runs/mine/config.yaml`"
    assert missing_paths(text, ROOT) == ["gone.md", "models/gone.py"]
    assert missing_names("`vidgan.build_gan(x)`, `vidgan.models.gone`") == ["vidgan.models.gone"]


def test_document_gate_sees_commands_wherever_they_stand() -> None:
    text = "type `vidgan doctor --jsno`\n\n    vidgan models  # a list\n\n$ vidgan sapmle x\n"
    assert commands_of(text) == ["vidgan models", "vidgan sapmle x", "vidgan doctor --jsno"]
    assert unknown_flags("vidgan doctor --jsno") == ["jsno"]
    assert unknown_flags("vidgan sample runs/a x.mp4 --class disc --num=4") == []
    with pytest.raises(UserError, match="did you mean 'vidgan sample'"):
        unknown_flags("vidgan sapmle x")


@pytest.mark.slow
def test_wheel_holds_everything_that_the_package_reads(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "src/vidgan", "configs"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    inside = {p.removeprefix("src/") if p[0] == "s" else f"vidgan/{p}" for p in tracked}
    assert {"vidgan/py.typed", "vidgan/report/page.html.j2", "vidgan/report/page.css"} <= inside
    assert inside <= names

    # An installed package finds its presets without the checkout.
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = "import vidgan, vidgan.training.presets as c; print(vidgan.__file__, *c.list_presets())"
    listed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert listed[0].startswith(str(site))
    assert len(listed) - 1 == len(PRESETS) > 0
