"""The command line: finds the verb, parses its words and turns errors into exit codes.

Exit codes: 0 done, 2 the user's mistake (one sentence on stderr), 3 training stopped as unhealthy,
130 interrupted (143, 129 and 138 by SIGTERM, SIGHUP and SIGUSR1; training saves and leaves with 0),
1 our fault (traceback). Results go to stdout, progress and messages to stderr.
"""

import errno
import importlib
import inspect
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

from vidgan.cli.words import Verb, parse
from vidgan.core import stop_signals
from vidgan.core.code_version import VERSION
from vidgan.core.files import DISK_FULL
from vidgan.core.settings import closest
from vidgan.core.slurm import adopt_slurm
from vidgan.errors import (
    UnhealthyTrainingError,
    UserError,
    describe_memory_error,
    printable,
)

VERBS = {
    "demo": "vidgan.cli.train:demo",
    "data motions": "vidgan.cli.data:motions",
    "data check": "vidgan.cli.data:check",
    "data build": "vidgan.cli.data:build",
    "data export": "vidgan.cli.data:export",
    "data split": "vidgan.cli.data:split",
    "data faces": "vidgan.cli.data:faces",
    "data stabilize": "vidgan.cli.data:stabilize",
    "plan": "vidgan.cli.train:plan",
    "train": "vidgan.cli.train:train",
    "evaluate": "vidgan.cli.evaluate:evaluate",
    "compare": "vidgan.cli.evaluate:compare",
    "bench": "vidgan.cli.evaluate:bench",
    "report": "vidgan.cli.train:report",
    "sample": "vidgan.cli.sample:sample",
    "interpolate": "vidgan.cli.sample:interpolate",
    "predict": "vidgan.cli.sample:predict",
    "project": "vidgan.cli.project:project",
    "export": "vidgan.cli.share:export",
    "explore": "vidgan.cli.explore:explore",
    "web-runtime": "vidgan.cli.share:web_runtime",
    "push": "vidgan.cli.share:push",
    "pull": "vidgan.cli.share:pull",
    "weights list": "vidgan.cli.about:list_weights",
    "weights verify": "vidgan.cli.about:verify",
    "weights convert": "vidgan.cli.about:convert",
    "models": "vidgan.cli.about:models",
    "presets": "vidgan.cli.about:presets",
    "zoo": "vidgan.cli.about:zoo",
    "doctor": "vidgan.cli.about:doctor",
    "completion": "vidgan.cli.completion:completion",
}
"""Verb (one or two words) to `module:function`; the signature of the function is its flags."""

TRUST_FLAG = "--trust"
"""Flag of every verb: names a class whose code the user wants to run when a file asks for it."""

UNUSABLE_PATHS = (PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError)
UNUSABLE_NAMES = {errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}

SECONDS_FOR_FIRST_PROCESS = 5.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code.

    Args:
        arguments: the words after `vidgan`; None takes those of the process.
    """
    from vidgan.core.plugins import SAFE_PATH

    # Workers and launched runs may start in untrusted folders.
    os.environ[SAFE_PATH] = "1"
    # Waiting threads would otherwise spin and, on a busy machine, starve others.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not wants_colour():
        os.environ["PYTHON_TYRO_ANSI_CODES"] = "False"
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def wants_colour() -> bool:
    """Whether help and complaints may be coloured: on a terminal, unless NO_COLOR says no."""
    return not os.environ.get("NO_COLOR") and sys.stdout.isatty() and sys.stderr.isatty()


def run(arguments: Sequence[str]) -> int:
    """Run one verb and return its exit code; an error of ours leaves as the exception it is."""
    try:
        adopt_slurm()
        words = [with_home(word) for word in arguments]
        if not words or words[0] in ("-h", "--help", "help"):
            print(overview())
            return 0 if words else 2
        if words[0] in ("-V", "--version"):
            print(f"vidgan {VERSION}")
            return 0
        name, rest = find_verb(trust_words(words))
        with stop_signals.raised():
            return call_verb(name, load_verb(name), rest)
    except UserError as error:
        return complain(str(error), 2)
    except UnhealthyTrainingError as error:
        return complain(str(error), 3)
    except stop_signals.Interrupted as error:
        return complain(f"interrupted by {error.name}", 128 + error.number)
    except KeyboardInterrupt:
        return complain("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output (a pager, `head`) closed the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        sentence = describe_os_error(error)
        if sentence is None:
            raise
        return complain(sentence, 2)
    except (MemoryError, RuntimeError) as error:
        shortage = describe_memory_error(error)
        if shortage is None:
            raise
        return complain(f"{shortage}; end other programs that use it, or ask for less", 2)


def trust_words(words: Sequence[str]) -> list[str]:
    """The words without `--trust NAME`, whose classes files may name from now on.

    Raises:
        UserError: a class that is not there.
    """
    from vidgan.core.plugins import trust

    rest: list[str] = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        flag, separator, name = word.partition("=")
        if word == "--":
            return [*rest, word, *remaining]
        if flag != TRUST_FLAG:
            rest.append(word)
        elif separator or remaining:
            trust(name if separator else remaining.pop(0))
        else:
            raise UserError(f"{TRUST_FLAG} needs a class after it: package.module:Class")
    return rest


def with_home(word: str) -> str:
    """A word whose path names the home folder in full, which shells do not expand after `=`.

    Example:
        >>> os.environ["HOME"] = "/home/me"
        >>> [with_home(word) for word in ("data=~/clips", "--out=~/x", "a~/b", "seed=~")]
        ['data=/home/me/clips', '--out=/home/me/x', 'a~/b', 'seed=~']
    """
    found = re.fullmatch(r"((?:-*[\w.-]+=)?)(~[\w.-]*/.*)", word)
    return found[1] + os.path.expanduser(found[2]) if found else word  # noqa: PTH111


def find_verb(words: Sequence[str]) -> tuple[str, list[str]]:
    """Split words into the name of a verb and the rest.

    Raises:
        UserError: no such verb; the sentence suggests the nearest one.
    """
    for length in (2, 1):
        name = " ".join(words[:length])
        if len(words) >= length and name in VERBS:
            return name, list(words[length:])
    members = [name for name in VERBS if name.split()[0] == words[0]]
    if members and (len(words) == 1 or words[1] in ("-h", "--help")):
        raise UserError(f"'vidgan {words[0]}' needs one more word: {', '.join(members)}")
    typed = " ".join(words[:2]) if members else words[0]
    guess = closest(typed, VERBS) or closest(" ".join(words[:2]), VERBS)
    hint = f"did you mean 'vidgan {guess}'?" if guess else "'vidgan --help' lists them"
    raise UserError(f"there is no verb {typed!r}; {hint}")


def load_verb(name: str) -> Verb:
    """Import the function of a verb."""
    module_name, _, function_name = VERBS[name].partition(":")
    verb: Verb = getattr(importlib.import_module(module_name), function_name)
    return verb


def call_verb(name: str, verb: Verb, words: Sequence[str]) -> int:
    """Parse `words` by the signature of `verb`, call it and return the exit code."""
    given = parse(name, verb, words)
    if given is None:
        return 0
    try:
        verb(*given.args, **given.kwargs)
    except SystemExit as end:
        # Training leaves so when it was asked to stop.
        if not isinstance(end.code, int | None):
            raise
        return end.code or 0
    return 0


def overview() -> str:
    """The list of verbs with the first sentence of each."""
    width = max(map(len, VERBS)) + 2
    lines = [
        "usage: vidgan VERB [words] [--flags]",
        "",
        "Train, sample and fairly compare generative adversarial networks for video.",
        "",
    ]
    for name in VERBS:
        lines.append(f"  {name:<{width}}{first_line(load_verb(name))}")
    lines += [
        "",
        "'vidgan VERB --help' explains a verb; settings are written key=value.",
        "--trust package.module:Class lets any verb use what names a model outside of packages.",
    ]
    return "\n".join(lines)


def first_line(function: Any) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


def complain(sentence: str, code: int) -> int:
    """Print a sentence to stderr, once for all processes of a `torchrun`, and return `code`.

    Usually every process meets the same mistake, and the first one reports it. The others wait: the
    launcher ends them as soon as the first one has left, unless the mistake was theirs alone.
    """
    rank = os.environ.get("RANK", "0")
    if rank != "0":
        time.sleep(SECONDS_FOR_FIRST_PROCESS)
        sentence = f"process {rank}: {sentence}"
    print(f"vidgan: {printable(sentence)}", file=sys.stderr, flush=True)
    return code


def describe_os_error(error: OSError) -> str | None:
    """The sentence for an error that the user can fix, such as a full disk; None for others."""
    place = f" while writing {error.filename}" if error.filename else ""
    if error.errno in DISK_FULL:
        what, remedy = DISK_FULL[error.errno]
        return f"{what}{place}; {remedy} and give the same command again"
    if error.filename and (isinstance(error, UNUSABLE_PATHS) or error.errno in UNUSABLE_NAMES):
        return f"{error.filename} cannot be used ({error.strerror}); choose another place"
    return None
