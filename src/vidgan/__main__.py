"""`python -m vidgan`, the form that `torchrun -m vidgan` starts."""

from vidgan.cli.main import main

if __name__ == "__main__":
    main()
