"""Scripts in several processes."""

import os
import subprocess
import sys
from pathlib import Path

ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
}
"""One thread, and the modules that the tests find."""


def torchrun(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a script in two processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node", "2", str(script), *words]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
