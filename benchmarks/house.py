"""The shape of the code in numbers: how large, how entangled, how often one thing has two names.

python benchmarks/house.py             of this checkout
python benchmarks/house.py --rev REV   of another commit of it, for a table of before and after
"""

import argparse
import ast
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_PARAMETERS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rev", default="", help="a commit; this checkout if there is none")
    rev = parser.parse_args().rev
    with tempfile.TemporaryDirectory() as folder:
        root = ROOT
        if rev:
            archive = subprocess.run(
                ["git", "archive", rev, "src"], cwd=ROOT, check=True, capture_output=True
            ).stdout
            subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
            root = Path(folder)
        rows = measure(root / "src" / "vidgan")
    print(f"| {rev or 'this checkout'} | |\n| --- | --- |")
    for name, value in rows.items():
        print(f"| {name} | {value} |")


def measure(package: Path) -> dict[str, object]:
    """Counts of a package, by what they count."""
    texts = {path: path.read_text("utf-8") for path in sorted(package.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines = {path: len(text.splitlines()) for path, text in texts.items()}
    longest = max(lines, key=lambda path: lines[path])
    classes = [node for tree in trees.values() for node in ast.walk(tree) if is_class(node)]
    public = Counter(
        name
        for path, tree in trees.items()
        if path.parent.name != "cli"  # a verb is called as the function that it wraps
        for name in public_names(tree)
    )
    imports = {module_of(path, package): set(imported(tree)) for path, tree in trees.items()}
    return {
        "modules": len(texts),
        "files at the root": sum(path.parent == package for path in texts),
        "lines of code": sum(map(code_lines, texts.values(), trees.values())),
        "dataclasses": sum(is_dataclass(node) for node in classes),
        "circles of modules": len(circles(imports)),
        f"functions over {MAX_PARAMETERS} parameters, constructors aside": sum(
            len(parameters(node)) > MAX_PARAMETERS
            for tree in trees.values()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.name != "__init__"
        ),
        "`dict[str, Any]`": sum(text.count("dict[str, Any]") for text in texts.values()),
        "public names defined more than once": sum(count > 1 for count in public.values()),
        "longest file": f"{longest.relative_to(package)}, {lines[longest]} lines",
    }


def is_class(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef)


def is_dataclass(node: ast.AST) -> bool:
    """Whether a class is decorated by `dataclass`."""
    assert isinstance(node, ast.ClassDef)
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def parameters(node: ast.FunctionDef) -> list[ast.arg]:
    """Parameters of a function, `self` and `cls` aside."""
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [argument for argument in every if argument.arg not in ("self", "cls")]


def public_names(tree: ast.Module) -> Iterator[str]:
    """Functions and classes at the top of a module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def code_lines(text: str, tree: ast.Module) -> int:
    """Lines that are neither blank, nor comments, nor docstrings."""
    documented = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for statement in body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                documented |= set(range(statement.lineno, (statement.end_lineno or 0) + 1))
    numbered = enumerate(text.splitlines(), 1)
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and number not in documented
        for number, line in numbered
    )


def module_of(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.Module) -> Iterator[str]:
    """Modules that a module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that import each other, directly or by others."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in imports[waiting.pop()] & imports.keys():
                if target not in seen and target != start:
                    seen.add(target)
                    waiting.append(target)
        return seen

    reached = {module: reach(module) for module in imports}
    groups = []
    for module in imports:
        group = {
            other
            for other in reached[module]
            if module in imports[other] or module in reached[other]
        }
        if group and not any(module in known for known in groups):
            groups.append(group | {module})
    return groups


if __name__ == "__main__":
    main()
