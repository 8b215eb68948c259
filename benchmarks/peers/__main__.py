"""Every system beside its authors' code, or the best known other one: a table of differences.

    python benchmarks/peers --code FOLDER                  # all that can run here
    python benchmarks/peers --code FOLDER --only mocogan   # systems whose name begins so

FOLDER holds the repositories, each cloned as `owner-name`; the command prints the lines of `git`
that clone what is missing and stops. Nothing is downloaded, and nothing of another's code is
copied or changed. Both sides compute in float64 with the same weights, latents and clips.
"""

import argparse
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path

import torch
from beside import Peer, Row

from vidgan.core.machine import processor_id
from vidgan.errors import UserError

COLUMNS = (
    "system",
    "peer (commit, licence)",
    "aspect",
    "largest relative difference",
    "deliberate difference and why",
)


def lazily(module: str, function: str = "compare") -> Callable[[Path], list[Row]]:
    """The comparison of a module, which is loaded when it runs."""

    def compare(folder: Path) -> list[Row]:
        found: list[Row] = getattr(import_module(module), function)(folder)
        return found

    return compare


PEERS = [
    Peer(
        "mocogan",
        "sergeytulyakov/mocogan",
        "937a99de73a3385fe0c0d1cde65dfa8a2c4177ec",
        "CC BY-NC-ND 4.0",
        lazily("mocogan"),
    ),
    Peer(
        "tgan",
        "pfnet-research/tgan",
        "09aa10571e6c090a0f530c8e3f1515780867a894",
        "MIT",
        lazily("tgan"),
        needs="chainer",
    ),
    Peer(
        "vgan",
        "batsa003/videogan",
        "8ab98aa974228ec4a3a08a396b77f5e2cec68d5d",
        "none",
        lazily("vgan"),
    ),
    Peer(
        "vgan",
        "cvondrick/videogan",
        "88c0c4d967a9d29ce6cfea19174b22dd5ccbb350",
        "MIT",
        note="its code needs Lua Torch, which is no longer maintained",
    ),
    Peer(
        "dvdgan",
        "ajbrock/BigGAN-PyTorch",
        "98459431a5d618d644d54cd1e9fceb1e5045648d",
        "MIT",
        lazily("biggan"),
    ),
    Peer(
        "dvdgan",
        "Harrypotterrrr/DVD-GAN",
        "d8c4b6a4adb6217eb959eed0ea041a67589869cf",
        "none",
        lazily("dvdgan"),
    ),
    Peer(
        "losses of all",
        "POSTECH-CVLab/PyTorch-StudioGAN",
        "947b35e9835b67860fdce44d337f6d7fee7c8db3",
        "MIT, NVIDIA in parts",
        lazily("studiogan"),
    ),
    Peer(
        "pvgan",
        "musikisomorphie/swd",
        "16d6ccd023c51a20edaaa4e0578ce7e8a3858fd9",
        "CC BY-NC 4.0 in file heads",
        lazily("pvgan", "compare_swd"),
        needs="tensorflow",
    ),
    Peer(
        "pvgan",
        "tkarras/progressive_growing_of_gans",
        "2504c3f3cb98ca58751610ad61fa1097313152bd",
        "CC BY-NC 4.0",
        lazily("pvgan", "compare_progressive"),
        needs="tensorflow",
    ),
    Peer(
        "ivgan",
        "bernhard2202/improved-video-gan",
        "71a724117f8982112cff5c826dd7a5a335fde262",
        "none",
        lazily("ivgan"),
        needs="tensorflow",
    ),
]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--code", type=Path, required=True, help="folder of the clones")
    parser.add_argument("--only", default="", help="start of the names of the systems to compare")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        print(table(arguments.code, arguments.only))
    except UserError as error:
        print(f"peers: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def table(code: Path, only: str = "") -> str:
    """The table in Markdown, and what it was made with.

    Raises:
        UserError: no system has such a name, or a clone is missing or at another commit.
    """
    peers = [peer for peer in PEERS if peer.system.startswith(only)]
    if not peers:
        names = ", ".join(dict.fromkeys(peer.system for peer in PEERS))
        raise UserError(f"no system begins with --only={only}; there are {names}")
    check_clones([peer for peer in peers if peer.compare], code)
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        f"|{' --- |' * len(COLUMNS)}",
    ]
    for peer in peers:
        name = f"{peer.repository} ({peer.commit[:7]}, {peer.licence})"
        for row in rows_of(peer, code):
            number = "-" if row.difference is None else f"{row.difference:.1e}"
            lines.append(f"| {peer.system} | {name} | {row.aspect} | {number} | {row.deliberate} |")
    made_with = f"Python {platform.python_version()}, torch {torch.__version__}, {processor_id()}"
    return "\n".join([*lines, "", f"{made_with}, one thread, float64."])


def check_clones(peers: Sequence[Peer], code: Path) -> None:
    """Refuse clones that are missing, with the lines that make them, or at another commit."""
    missing = [peer for peer in peers if not peer.folder(code).is_dir()]
    if missing:
        lines = [
            f"  git clone https://github.com/{peer.repository} {peer.folder(code)} && "
            f"git -C {peer.folder(code)} checkout {peer.commit}"
            for peer in missing
        ]
        raise UserError(
            f"{code} lacks {len(missing)} of {len(peers)} repositories; clone them with\n"
            + "\n".join(lines)
        )
    for peer in peers:
        folder = peer.folder(code)
        if not (folder / ".git").exists():
            continue  # unpacked from an archive: it cannot say which commit it is
        command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
        head = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if head != peer.commit:
            raise UserError(
                f"{folder} is at commit {head[:7]}, not the compared one; "
                f"run: git -C {folder} checkout {peer.commit}"
            )


def rows_of(peer: Peer, code: Path) -> list[Row]:
    """The comparison, or a row that says why there is none."""
    if peer.compare is None:
        return [Row("not run by this command", None, peer.note)]
    torch.manual_seed(0)
    try:
        # Some of theirs print, and the table alone is this command's output.
        with redirect_stdout(sys.stderr):
            return peer.compare(peer.folder(code))
    except ModuleNotFoundError as error:
        if not peer.needs or error.name is None or error.name.split(".")[0] != peer.needs:
            raise
        return [Row("not run here", None, f"its code needs {peer.needs}, which is not installed")]


if __name__ == "__main__":
    main()
