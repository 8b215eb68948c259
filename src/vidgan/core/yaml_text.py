"""YAML text to plain values and back, with the scalars of YAML 1.2.

The rules are those of YAML 1.2: `off` stays a word, `1e-3` is a number, `010` is ten and
`2024-01-01` is text. A key that is given twice is refused.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vidgan.core.files import read_text
from vidgan.errors import UserError

MAX_CHARACTERS = 1 << 20
MAX_DEPTH = 32
MAX_VALUES = 100_000
"""Values of a text once every alias is expanded; a few nested ones make billions."""
MAX_DIGITS = 100


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; an empty file is an empty one.

    Raises:
        UserError: no such file, not YAML, a repeated key, or not a mapping of words to values.
    """
    try:
        text = read_text(path, MAX_CHARACTERS)
    except OSError as error:
        raise UserError(f"the settings file {path} cannot be read: {error.strerror}") from error
    value = parse_yaml(text, f"the settings file {path}")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"the settings file {path} holds no 'key: value' lines")
    return value


def dump_yaml(mapping: Mapping[str, Any]) -> str:
    """Plain values as YAML text: keys in their order, one on each line, and lists on one line."""
    return yaml.dump(
        dict(mapping),
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=False,
        width=100,
        allow_unicode=True,
    )


def parse_yaml(text: str, what: str) -> Any:
    """The plain value of a YAML text; `what` names its source in messages.

    Raises:
        UserError: the text is not YAML or repeats a key.
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{what} is longer than {MAX_CHARACTERS:,} characters: no settings are")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except RecursionError as error:
        raise UserError(f"{what} cannot be read as YAML: it is nested too deeply") from error
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "not YAML"
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise UserError(f"{what} cannot be read as YAML: {problem}{line}") from error


def _check_size(root: yaml.Node) -> None:
    """Refuse what is nested too deeply, or grows too large once every alias is written out."""
    waiting, count = [(root, 1)], 0
    while waiting:
        node, depth = waiting.pop()
        count += 1
        problem = "it is nested too deeply" if depth > MAX_DEPTH else None
        if count > MAX_VALUES:
            problem = f"it has more than {MAX_VALUES:,} values"
        if problem:
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        if isinstance(node, yaml.MappingNode):
            waiting += [(part, depth + 1) for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += [(part, depth + 1) for part in node.value]


_RESOLVERS = (
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789")),
    (
        "float",
        re.compile(
            r"^(?:[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+0123456789."),
    ),
)


class _Loader(yaml.SafeLoader):
    """Safe YAML with the scalars of YAML 1.2 and without repeated keys."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML fills it, one dict per class

    def read_int(self, node: yaml.ScalarNode) -> int:
        """Digits are decimal even after a leading zero."""
        if len(node.value) > MAX_DIGITS:
            problem = f"a whole number of {len(node.value)} digits is not a setting"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return int(node.value)

    def read_mapping(self, node: yaml.MappingNode) -> dict[Any, Any]:
        """Refuse a key that is given twice: the first value would be lost silently."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be a word", key_node.start_mark
                )
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key_node.value} is given twice", key_node.start_mark
                )
            seen.add(str(key_node.value))
        return self.construct_mapping(node, deep=True)


class _Dumper(yaml.SafeDumper):
    """Quotes exactly the text that `_Loader` would take for something else."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML fills it, one dict per class

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal lists out instead of naming the first."""
        return True

    def write_list(self, data: list[Any]) -> yaml.SequenceNode:
        """A list on one line, unless it holds mappings."""
        flow = not any(isinstance(item, Mapping) for item in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flow)


for _tag, _pattern, _first in _RESOLVERS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.read_int)
_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.read_mapping)
_Dumper.add_representer(list, _Dumper.write_list)
