"""The words of a verb: put in order, and what it cannot take refused in a sentence."""

import functools
import inspect
import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from vidgan.core.settings import closest
from vidgan.errors import UserError

Verb = Callable[..., None]

HELP = ("--help", "-h")


class Flag(NamedTuple):
    """A flag as it was typed, and what stands behind it."""

    typed: str
    value: str | None

    @property
    def name(self) -> str:
        """Without dashes, words parted by them."""
        return self.typed.lstrip("-").replace("_", "-")


def parse(name: str, verb: Verb, words: Sequence[str]) -> inspect.BoundArguments | None:
    """The arguments of a verb by its signature; None if help was asked for, which is printed.

    Raises:
        UserError: it does not take these words.
    """
    import tyro

    check_words(name, verb, words)
    found = []

    @functools.wraps(verb)
    def note(*given: Any, **named: Any) -> None:
        found.append(inspect.signature(verb).bind(*given, **named))

    told = io.StringIO()
    try:
        with redirect_stderr(told):
            tyro.cli(
                note,
                prog=f"vidgan {name}",
                args=words_first(verb, words),
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as end:
        if end.code:
            # In a frame, over several lines, with the help of what it names.
            plain = " ".join(re.sub(r"[^ -~]", " ", told.getvalue()).split())
            reason = plain.partition(" Argument helptext")[0].partition(" For full helptext")[0]
            raise UserError(f"{reason}; {_help_on(name)}") from None
    return found[0] if found else None


def check_words(name: str, verb: Verb, words: Sequence[str]) -> None:
    """Refuse what a verb cannot take.

    Raises:
        UserError: an unknown flag, a flag without its value or with another kind of value, or too
            few or too many other words.
    """
    others, flags, rest = sort_words(verb, words)
    if any(flag.typed in HELP for flag in flags):
        return
    kinds = flags_of(verb)
    positional = {
        parameter.name: parameter
        for parameter in inspect.signature(verb).parameters.values()
        if parameter.kind is parameter.POSITIONAL_ONLY
    }
    known = [flag for flag in kinds if flag not in positional]
    for flag in flags:
        if flag.name not in known or not flag.typed.startswith("--"):
            hint = _instead(name, flag, known)
            raise UserError(f"'vidgan {name}' has no flag {flag.typed}; {hint}")
        _check_flag(name, flag, kinds[flag.name])
    given = {flag.name for flag in flags}
    for flag_name in _needed_flags(verb):
        if flag_name not in given:
            raise UserError(f"'vidgan {name}' needs --{flag_name} and a value; {_help_on(name)}")
    _check_positional(name, list(positional.values()), [*others, *rest])


def _check_positional(
    name: str, parameters: Sequence[inspect.Parameter], words: Sequence[str]
) -> None:
    usage = " ".join(["vidgan", name, *(_metavar(parameter) for parameter in parameters)])
    takes_all = any(get_origin(_kind(p.annotation)) is tuple for p in parameters)
    needed = [
        _metavar(p)
        for p in parameters
        if p.default is p.empty and get_origin(_kind(p.annotation)) is not tuple
    ]
    if len(words) < len(needed):
        lacking = " and ".join(needed[len(words) :])
        raise UserError(f"'vidgan {name}' lacks {lacking}: {usage}; {_help_on(name)}")
    if len(words) > len(parameters) and not takes_all:
        raise UserError(
            f"'vidgan {name}' cannot take {words[len(parameters)]!r} too: {usage}; {_help_on(name)}"
        )
    for parameter, word in zip(parameters, words, strict=False):
        _check_value(_metavar(parameter), word, _kind(parameter.annotation))


def _check_flag(name: str, flag: Flag, kind: Any) -> None:
    if kind is bool:
        if flag.value is not None:
            raise UserError(f"{flag.typed} is a switch and takes no value, such as {flag.value!r}")
    elif flag.value is None:
        raise UserError(f"{flag.typed} needs a value behind it; {_help_on(name)}")
    else:
        _check_value(flag.typed, flag.value, kind)


def _check_value(where: str, value: str, kind: Any) -> None:
    kinds = [one for one in get_args(kind) or [kind] if one is not NoneType]
    if get_origin(kind) is Literal:
        kinds = [kind]
    if NoneType in get_args(kind) and value == "None":
        return
    if get_origin(kinds[0]) is Literal and value not in get_args(kinds[0]):
        choices = get_args(kinds[0])
        guess = closest(value, choices)
        hint = f" (did you mean {guess}?)" if guess else ""
        raise UserError(f"{where} {value} is none of {', '.join(choices)}{hint}")
    for number, what in ((int, "a whole number"), (float, "a number")):
        if kinds == [number]:
            try:
                number(value)
            except ValueError:
                raise UserError(f"{where} {value} must be {what}") from None


def _instead(name: str, flag: Flag, known: Sequence[str]) -> str:
    guess = closest(flag.name, known)
    return f"did you mean --{guess}?" if guess else _help_on(name)


def _help_on(name: str) -> str:
    return f"'vidgan {name} --help' explains it"


# ------------------------------------------------------------------------------------------------
# What the signature of a verb says, and the order of words


def words_first(verb: Verb, words: Sequence[str]) -> list[str]:
    """Move flags after the positional words, so that both may be mixed freely.

    Example:
        >>> def sample(run: str, /, *, num: int = 1, json: bool = False) -> None: ...
        >>> words_first(sample, ["--num", "4", "runs/a", "--json", "seed=1"])
        ['runs/a', 'seed=1', '--num', '4', '--json']
    """
    others, flags, rest = sort_words(verb, words)
    typed = [word for flag in flags for word in flag if word is not None]
    return [*others, *typed, *(["--", *rest] if rest else [])]


def sort_words(verb: Verb, words: Sequence[str]) -> tuple[list[str], list[Flag], list[str]]:
    """Words that are no flags, flags with their values, and the words behind `--`."""
    kinds = flags_of(verb)
    switches = {name for name, kind in kinds.items() if kind is bool} | {"help", "h"}
    others: list[str] = []
    flags: list[Flag] = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if word == "--":
            return others, flags, remaining
        if not word.startswith("-") or word == "-":
            others.append(word)
            continue
        typed, separator, value = word.partition("=")
        flag = Flag(typed, value if separator else None)
        takes_next = not separator and flag.name not in switches
        if takes_next and remaining and not remaining[0].startswith("--"):
            flag = flag._replace(value=remaining.pop(0))
        flags.append(flag)
    return others, flags, []


def flags_of(verb: Verb) -> dict[str, Any]:
    """Flags and positional words of a verb with their types, those of a `Flags[...]` one by one."""
    return {name: _kind(annotation) for name, annotation, _ in _parameters(verb)}


def _needed_flags(verb: Verb) -> list[str]:
    return [name for name, _, is_needed in _parameters(verb) if is_needed]


def _parameters(verb: Verb) -> Iterator[tuple[str, Any, bool]]:
    """Name and annotation of each parameter, and whether it is a flag that has to be given."""
    for name, parameter in inspect.signature(verb).parameters.items():
        group = _kind(parameter.annotation)
        if is_dataclass(group):
            for field in fields(group):
                is_needed = field.default is MISSING and field.default_factory is MISSING
                yield _flag_name(field.name, field.type), field.type, is_needed
        else:
            is_flag = parameter.kind is parameter.KEYWORD_ONLY
            is_needed = is_flag and parameter.default is parameter.empty
            yield _flag_name(name, parameter.annotation), parameter.annotation, is_needed


def _flag_name(name: str, annotation: Any) -> str:
    return str(_given(annotation, "name") or name).replace("_", "-")


def _metavar(parameter: inspect.Parameter) -> str:
    return str(_given(parameter.annotation, "metavar") or parameter.name.upper())


def _given(annotation: Any, what: str) -> Any:
    """What `tyro.conf.arg` was told of a parameter."""
    found = getattr(annotation, "__metadata__", ())
    return next((value for one in found if (value := getattr(one, what, None))), None)


def _kind(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
