"""The command `vidgan`, and `python -m vidgan`, the form that `torchrun -m vidgan` starts."""

import sys


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    try:
        # Within the block, since loading the modules takes long enough for a Ctrl-C.
        from vidgan.cli.main import main as run

        run()
    except KeyboardInterrupt:
        print("vidgan: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
