"""The verb `completion`: a script by which a shell completes verbs, flags, presets and settings.

The words are looked up when the script is written, so that the shell starts no Python for a tab.
"""

import dataclasses
import inspect
import shlex
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal

import tyro

from vidgan.cli import main as cli
from vidgan.cli.common import print_lines
from vidgan.cli.words import flags_of

Shell = Annotated[Literal["bash", "zsh"], tyro.conf.arg(metavar="bash|zsh")]

FIRST_WORDS = {
    "train": "presets",
    "plan": "presets",
    "models": "models",
    "zoo": "zoo",
    "sample": "generators",
    "interpolate": "generators",
    "export": "generators",
    "completion": "shells",
}
"""What the words of a verb may be, besides files."""
WITH_SETTINGS = ("train", "plan", "demo")
"""Verbs that take every setting of a training as `key=value`."""

TEMPLATE = r"""# Completion of vidgan for @SHELL@, written by: vidgan completion @SHELL@
_vidgan_flags() {
  case "$1" in
@FLAGS@
  esac
}
_vidgan_choices() {
  case "$1" in
@CHOICES@
  esac
}
_vidgan_words() {
  case "$1" in
@WORDS@
  esac
}
_vidgan() {
  local cur="${COMP_WORDS[COMP_CWORD]}" prev="" key="" start="" verb="${COMP_WORDS[1]}" words
  [ "$COMP_CWORD" -gt 0 ] && prev="${COMP_WORDS[COMP_CWORD-1]}"
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "@FIRST@" -- "$cur"))
    return
  fi
  case " @GROUPS@ " in *" $verb "*)
    if [ "$COMP_CWORD" -eq 2 ]; then
      COMPREPLY=($(compgen -W "$(_vidgan_words "$verb")" -- "$cur"))
      return
    fi
    verb="$verb ${COMP_WORDS[2]}" ;;
  esac
  # Bash takes key=value for three words, other shells for one.
  if [ "$cur" = "=" ]; then key="$prev" cur=""
  elif [ "$prev" = "=" ]; then key="${COMP_WORDS[COMP_CWORD-2]}"
  elif [[ "$cur" == ?*=* ]]; then key="${cur%%=*}" start="$key=" cur="${cur#*=}"
  elif [[ "$prev" == --* ]]; then key="$verb $prev"
  fi
  if [ -n "$key" ]; then
    case "$key" in --*) key="$verb $key" ;; esac
    words="$(_vidgan_choices "$key")"
    if [ "$words" = "-" ]; then key=""
    elif [ -n "$words" ]; then COMPREPLY=($(compgen -P "$start" -W "$words" -- "$cur")); return
    else COMPREPLY=($(compgen -P "$start" -f -- "$cur")); return
    fi
  fi
  if [[ "$cur" == -* ]]; then
    COMPREPLY=($(compgen -W "$(_vidgan_flags "$verb")" -- "$cur"))
    return
  fi
  # Bash also splits zoo:NAME, and takes what stands behind the colon.
  if [ "$cur" = ":" ]; then start="$prev:" cur="$prev:"
  elif [ "$prev" = ":" ]; then start="${COMP_WORDS[COMP_CWORD-2]}:" cur="$start$cur"
  fi
  COMPREPLY=($(compgen -W "$(_vidgan_words "$verb")" -- "$cur") $(compgen -f -- "$cur"))
  COMPREPLY=("${COMPREPLY[@]#"$start"}")
  if [ "${#COMPREPLY[@]}" -eq 1 ] && [[ "${COMPREPLY[0]}" == *= ]]; then
    compopt -o nospace 2>/dev/null
  fi
}
complete -o filenames -o bashdefault -F _vidgan vidgan
"""

OF_ZSH = "autoload -Uz bashcompinit && bashcompinit\n"


def completion(shell: Shell, /) -> None:
    """Print a script that completes verbs, flags, presets and settings at the press of tab.

    For bash: vidgan completion bash > ~/.local/share/bash-completion/completions/vidgan.
    For zsh: vidgan completion zsh > ~/.vidgan.zsh, and `source ~/.vidgan.zsh` in ~/.zshrc.

    Args:
        shell: bash or zsh.
    """
    print_lines(script(shell), end="")


def script(shell: str) -> str:
    """The script for a shell."""
    groups = sorted({name.split()[0] for name in cli.VERBS if " " in name})
    flags: dict[str, Iterable[str]] = {}
    choices = {key: values for key, values in setting_choices().items() if values}
    for verb in cli.VERBS:
        kinds = flags_of(cli.load_verb(verb))
        # The words of a verb stand in its signature too, before what has a default.
        named = {name: kind for name, kind in kinds.items() if name in flag_names(verb)}
        flags[verb] = [f"--{name}" for name in named]
        for name, kind in named.items():
            word = f"{verb} --{name}"
            # A switch takes no value: whatever follows is a word of its own.
            choices[word] = ["-"] if kind is bool else choices_of(kind)
    words = first_words()
    words |= {
        group: [n.split()[1] for n in cli.VERBS if n.startswith(f"{group} ")] for group in groups
    }
    text = TEMPLATE.replace("@SHELL@", shell)
    text = text.replace("@FLAGS@", _cases(flags)).replace("@CHOICES@", _cases(choices))
    text = text.replace("@WORDS@", _cases(words)).replace("@GROUPS@", " ".join(groups))
    text = text.replace("@FIRST@", " ".join(dict.fromkeys(name.split()[0] for name in cli.VERBS)))
    return (OF_ZSH if shell == "zsh" else "") + text


def flag_names(verb: str) -> set[str]:
    """Names of the flags of a verb, without its words."""
    signature = inspect.signature(cli.load_verb(verb))
    words = {
        name.replace("_", "-")
        for name, parameter in signature.parameters.items()
        if parameter.kind is parameter.POSITIONAL_ONLY
    }
    return set(flags_of(cli.load_verb(verb))) - words


def first_words() -> dict[str, list[str]]:
    """What may be typed behind a verb, besides flags and files."""
    from vidgan.models import list_models
    from vidgan.sampling.zoo import PREFIX, list_zoo
    from vidgan.training.presets import list_presets

    zoo = [entry.name for entry in list_zoo()]
    known = {
        "presets": list_presets(),
        "models": list_models(),
        "zoo": zoo,
        "generators": [f"{PREFIX}{name}" for name in zoo],
        "shells": ["bash", "zsh"],
    }
    settings = [f"{key}=" for key in setting_choices()]
    return {
        verb: [*known.get(FIRST_WORDS.get(verb, ""), []), *settings * (verb in WITH_SETTINGS)]
        for verb in cli.VERBS
    }


@lru_cache(maxsize=1)
def setting_choices() -> Mapping[str, list[str]]:
    """Every setting of a training with its values, where they are few; those of all models."""
    from vidgan.losses.recipes import RECIPES
    from vidgan.models import list_models, model_config_class
    from vidgan.training.loggers import LOGGERS
    from vidgan.training.presets import SHORTHANDS, Config

    found = dict(_fields(Config, ""))
    for name in list_models():
        for key, values in _fields(model_config_class(name), "model."):
            found[key] = [*dict.fromkeys([*found.get(key, []), *values])]
    found |= {
        "model.name": list_models(),
        "loss.name": list(RECIPES),
        "training.log": LOGGERS.names(),
    }
    found |= {short: found.get(key, []) for short, key in SHORTHANDS.items()}
    return found


def _fields(cls: type, prefix: str) -> Iterator[tuple[str, list[str]]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _fields(typing.cast(type, kind), f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", choices_of(kind)


def choices_of(kind: Any) -> list[str]:
    """The values of a type, if they are few; none of another.

    Example:
        >>> choices_of(Literal["onnx", "pt2"] | None), choices_of(bool), choices_of(int)
        (['onnx', 'pt2'], ['true', 'false'], [])
    """
    if kind is bool:
        return ["true", "false"]
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return [str(part) for part in parts]
    if origin in (typing.Union, types.UnionType):
        return [value for part in parts for value in choices_of(part)]
    return choices_of(parts[0]) if origin is Annotated else []


def _cases(table: Mapping[str, Iterable[str]]) -> str:
    return "\n".join(
        f"    {shlex.quote(key)}) echo {shlex.quote(' '.join(values))} ;;"
        for key, values in table.items()
    )
