"""Everything that needs one card, in at most eight minutes, and a page about it.

    make gpu                        on the card, or in a tiny form on the CPU where there is none
    make gpu TINY=1 OUT=folder      the tiny form; `folder` receives the page

Runs the tests marked `gpu`, measures a training step at every level (eager, compiled, as a CUDA
graph) against a product of matrices and a copy measured in the same run, the loader, peak memory,
whether a continued run has the bits of an uninterrupted one, and trains twice for 90 seconds at
64 px. Each part is a process of its own (`gpu_parts.py`) with a time limit, so that a kernel which
never returns costs that part alone; the whole keeps to `--budget`. Nothing is downloaded: packages
that the machine lacks may lie as wheels in the folder `.wheels`. The folder receives results.md,
results.json, session.log and two sheets of clips.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parent.parent
TRAINING_PART_S = 115.0
"""Of each training: 90 s, the judging of its speed before and the drawing of clips after it."""
LIMITS_S = {
    "machine": 30.0,
    "levels": 60.0,
    "tests": 100.0,
    "presets": 120.0,
    "layers": 25.0,
    "graphed": 35.0,
    "loader": 30.0,
    "resume": 40.0,
    "compiled": 90.0,
    "kernels": 20.0,
    "switched": 45.0,
}
"""Longest time of each part on a card, in their order; the trainings come last. No part gets more
than the budget leaves once the trainings have theirs."""
TRAININGS = ("training A", "training B")
LEAST_S = 15.0
"""A part that would get less is left out: its process alone takes a third of that to start."""
TINY_LIMIT_S = 600.0
"""Of each part on a CPU, however busy: there the limits only end what hangs."""
TINY_TESTS = ["-k", "cpu and (average or samples)"]

Row = dict[str, Any]


class Session:
    """The parts that have run, their rows, and the time that is left."""

    def __init__(self, out: Path, work: Path, budget_s: float, tiny: bool) -> None:
        self.out, self.work, self.tiny = out, work, tiny
        self.starts, self.budget_s = time.monotonic(), budget_s
        self.parts: dict[str, Row] = {}
        self.children: list[subprocess.Popen[bytes]] = []
        self.log = (out / "session.log").open("w", encoding="utf-8")
        keep = os.environ.get("PYTHONPATH", "")
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(work / "site"), keep]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "VIDGAN_CACHE": str(work / "cache"),
            "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"),
            "TRITON_CACHE_DIR": str(work / "triton"),
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            "CUDA_MODULE_LOADING": "LAZY",
        }
        if tiny:
            self.environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget_s - (time.monotonic() - self.starts)

    def say(self, sentence: str) -> None:
        """A line for whoever watches, and for the log."""
        line = f"[{time.monotonic() - self.starts:5.0f} s] {sentence}"
        print(line, flush=True)
        self.log.write(line + "\n")
        self.log.flush()

    def start(
        self, words: list[str], output: TextIO | None = None, **environment: str
    ) -> "subprocess.Popen[bytes]":
        """A child in a process group of its own; what it says goes to a file, else to the log."""
        child = subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=output or self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.children.append(child)
        return child

    def close(self) -> None:
        """End what still runs."""
        for child in self.children:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
        self.log.close()

    def start_part(
        self, name: str, seconds: float, **environment: str
    ) -> "subprocess.Popen[bytes]":
        """The child of a part, which should end after `seconds`."""
        rows = self.out / f"rows-{name.replace(' ', '-')}.jsonl"
        words = [str(ROOT / "benchmarks" / "gpu_parts.py"), name, "--rows", str(rows)]
        words += ["--work", str(self.work), "--seconds", f"{seconds:.0f}"]
        return self.start(words + ["--tiny"] * self.tiny, None, **environment)

    def skip(self, name: str) -> None:
        """Leave a part out."""
        self.parts[name] = {"ended": "skipped: no time was left", "rows": []}
        self.say(f"{name}: {self.parts[name]['ended']}")

    def run(self, name: str, limit_s: float) -> None:
        """Run a part, or say that no time was left for it."""
        if limit_s < LEAST_S:
            self.skip(name)
            return
        self.say(f"{name}, at most {limit_s:.0f} s")
        # A part looks at the clock itself; only what hangs is killed.
        child = self.start_part(name, limit_s - 12)
        self.finish(name, child, limit_s)

    def finish(self, name: str, child: "subprocess.Popen[bytes]", limit_s: float) -> None:
        """Wait for a part within its limit, and read its rows."""
        start = time.monotonic()
        ended = end_within(child, limit_s)
        file = self.out / f"rows-{name.replace(' ', '-')}.jsonl"
        rows = read_rows(file, ended)
        file.unlink(missing_ok=True)
        self.parts[name] = {"ended": ended, "seconds": time.monotonic() - start, "rows": rows}
        self.say(f"{name}: {ended} after {self.parts[name]['seconds']:.0f} s, {len(rows)} rows")
        self.save()

    def run_tests(self, limit_s: float) -> None:
        """The tests marked `gpu`, none of which may be skipped; in the tiny form a few of them."""
        if limit_s < LEAST_S:
            self.skip("tests")
            return
        self.say(f"tests, at most {limit_s:.0f} s")
        report = self.work / "tests.txt"
        words = ["-m", "pytest", "-v", "-p", "no:cacheprovider", "--no-skips", "tests/gpu"]
        words += TINY_TESTS if self.tiny else ["-m", "gpu"]
        # Most of a test's time is its float64 reference on the CPU.
        words += ["-n", "8"] if find_spec("xdist") and not self.tiny else []
        start = time.monotonic()
        with report.open("w") as file:
            # The references on the CPU run beside each other, with some threads each.
            child = self.start(words, file, OMP_NUM_THREADS="2")
        ended = end_within(child, limit_s)
        lines = report.read_text(encoding="utf-8", errors="replace").splitlines()
        self.log.write("\n".join(lines[-200:]) + "\n")
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        # Without a summary, since the limit came first, the list of tests tells.
        failed = failed or [line for line in lines if " FAILED " in line or " ERROR " in line]
        self.parts["tests"] = {
            "ended": ended,
            "seconds": time.monotonic() - start,
            "summary": lines[-1].strip("= ") if lines else "",
            "rows": [{"test": line} for line in failed],
        }
        self.say(f"tests: {ended}; {self.parts['tests']['summary']}")
        self.save()

    def save(self) -> None:
        """Write results.json and results.md as they stand."""
        seconds = time.monotonic() - self.starts
        results = {"tiny": self.tiny, "seconds": seconds, "parts": self.parts}
        (self.out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        (self.out / "results.md").write_text(page(results), encoding="utf-8")


def end_within(child: "subprocess.Popen[bytes]", limit_s: float) -> str:
    """Wait for a child; one that runs past its limit is killed with all that it started."""
    try:
        code = child.wait(max(limit_s, 0.1))
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return f"killed at its limit of {limit_s:.0f} s"
    return "finished" if code == 0 else f"ended with exit code {code}"


def read_rows(file: Path, ended: str) -> list[Row]:
    """The rows of a part; something that began and left no row becomes one with an error."""
    rows: list[Row] = []
    begun: Row | None = None
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        row = json.loads(line)
        if "begins" in row:
            begun = row["begins"]
        else:
            rows.append(row)
            begun = None
    return rows if begun is None else [*rows, {**begun, "error": f"the process {ended}"}]


# ------------------------------------------------------------------------------------------------
# The page


def page(results: Row) -> str:
    """Markdown of all that has been measured."""
    parts: dict[str, Row] = results["parts"]
    facts = next(iter(rows_of(parts, "machine")), {})
    lines = [f"# One card: {facts.get('device', 'unknown')}", ""]
    if results["tiny"]:
        lines += ["Tiny form on a CPU: all of it runs, and no number means anything.", ""]
    lines += [f"{key}: {shown(value)}  " for key, value in facts.items()]
    tests = parts.get("tests", {})
    lines += ["", "## Tests", "", f"{tests.get('summary', 'not run')} ({tests.get('ended', '')})"]
    lines += [f"* `{row['test']}`" for row in tests.get("rows", ())]
    rates = {row["rate"]: row for row in rows_of(parts, "machine") if "rate" in row}
    lines += section("Rates", ("rate", "TFLOP/s", "GB/s"), map(rate_cells, rates.values()))
    lines += section("Double backward of a convolution", LAYER_HEAD, layer_rows(parts))
    measured = ("levels", "presets", "compiled", "graphed", "switched")
    steps = [row for name in measured for row in rows_of(parts, name)]
    lines += ["", "## Training steps", "", STEP_NOTE]
    lines += table(STEP_HEAD, (step_cells(row, rates) for row in steps))
    lines += waits(steps)
    for row in rows_of(parts, "kernels"):
        title = f"Kernels of a step, level {row['kernels_of']}"
        for what, key in (("kernel", "longest"), ("operator and shapes", "calls")):
            cells = ((name, shown(ms), str(count)) for name, ms, count in row.get(key, ()))
            lines += section(title, (what, "ms", "calls"), cells)
            title = "The same by operator"
        lines += [row["error"]] if "error" in row else [f"\nIn all {shown(row['total_ms'])} ms."]
    loaded = map(loader_cells, rows_of(parts, "loader"))
    lines += section("Loader", ("reading processes", "clips/s"), loaded)
    lines += section("Continued runs", RESUME_HEAD, map(resume_cells, rows_of(parts, "resume")))
    for letter in "AB":
        for row in rows_of(parts, f"training {letter}"):
            lines += training_lines(letter, row)
    lines += section(
        "Parts",
        ("part", "how it ended", "s"),
        ((name, part["ended"], shown(part.get("seconds"))) for name, part in parts.items()),
    )
    return "\n".join([*lines, "", f"The whole took {results['seconds']:.0f} s.", ""])


STEP_NOTE = (
    "A step is every update of both players with optimizers and moving average; lazy penalties "
    'count at their share. "of matmul" divides its TFLOP/s by those of a product of matrices in '
    'the same number format (fp32: TF32 where cuDNN may use it); "of copy" divides the bytes '
    "that unfused kernels read and write in a second by those of a copy, so caches can bring it "
    "above 100 %. GPU memory is the peak of the allocator; on a CPU the process' peak so far."
)
STEP_HEAD = (
    *("preset", "mode", "format", "size", "batch", "ms", "clips/s"),
    *("TFLOP/s", "of matmul", "of copy", "kernel calls", "peak GiB", "host waits"),
)
LAYER_HEAD = (
    *("layer", "format", "ours ms", "stock ms", "stock / ours"),
    *("ours: cosine, length", "stock: cosine, length"),
)
RESUME_HEAD = ("kernels", "run again", "stopped, continued", "largest difference", "warned of")


def rows_of(parts: dict[str, Row], name: str) -> list[Row]:
    """The rows of a part, none if it has not run."""
    rows: list[Row] = parts.get(name, {}).get("rows", [])
    return rows


def section(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A heading and a table."""
    return ["", f"## {title}", *table(head, rows)]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A table of Markdown."""
    names = list(head)
    lines = ["", f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]
    for cells in rows:
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def shown(value: Any) -> str:
    """A value for a reader: three significant digits."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return "-" if value is None else str(value)


def rate_cells(row: Row) -> list[str]:
    """Cells of a rate of the machine."""
    if "error" in row:
        return [row["rate"], row["error"], ""]
    return [row["rate"], shown(row.get("tflop_per_s")), shown(row.get("gb_per_s"))]


def step_cells(row: Row, rates: dict[str, Row]) -> list[str]:
    """Cells of a step, or the reason why there is none."""
    level = "" if row.get("level") is None else f" level {row['level']}"
    names = [f"{row['what']}{level}", row["mode"], row["precision"]]
    if "tflop" not in row:
        return [*names, row["error"], *[""] * (len(STEP_HEAD) - 4)]
    kind = "tf32" if row["precision"] == "fp32" else "bf16"
    cells = [row["size"], str(row["batch"])]
    cells += [shown(row[key]) for key in ("ms", "clips_per_s", "tflop_per_s")]
    cells += [share(row["tflop_per_s"], rates.get(kind, {}).get("tflop_per_s"))]
    cells += [share(row["gb_per_s"], rates.get("copy", {}).get("gb_per_s"))]
    waits = sum(row["host_waits"].values()) if "host_waits" in row else None
    cells += [str(row["calls"]), shown(row["peak_gib"]), shown(waits)]
    if "error" in row:
        cells[-1] = row["error"]
    return [*names, *cells]


def share(value: float, whole: float | None) -> str:
    """A percentage."""
    return f"{100 * value / whole:.1f} %" if whole else "-"


def waits(steps: list[Row]) -> list[str]:
    """Where the host waits for the card, by the line that asks for it."""
    found = {
        (f"{row['what']}", place): times
        for row in steps
        for place, times in row.get("host_waits", {}).items()
    }
    if not found:
        return []
    head = ("preset", "line", "times a step")
    return section("Host waits", head, ((*key, str(times)) for key, times in found.items()))


def layer_rows(parts: dict[str, Row]) -> Iterator[list[str]]:
    """Cells of the double backward of single layers."""
    for row in rows_of(parts, "layers"):
        names = [row["layer"], row["dtype"]]
        both = [row[way] for way in ("ours", "stock") if way in row]
        if "error" in row or len(both) < 2:
            yield [*names, row.get("error", ""), *[""] * (len(LAYER_HEAD) - 3)]
            continue
        ours, stock = both
        speeds = [shown(ours["ms"]), shown(stock["ms"]), shown(stock["ms"] / ours["ms"])]
        yield [*names, *speeds, *(f"{way['cosine']:.4f}, {way['ratio']:.3f}" for way in both)]


def loader_cells(row: Row) -> list[str]:
    """Cells of a measurement of the loader."""
    return [str(row["workers"]), row.get("error") or shown(row["clips_per_s"])]


def resume_cells(row: Row) -> list[str]:
    """Cells of a comparison of runs."""
    if "error" in row:
        return [row["kernels"], row["error"], "", "", ""]
    words = {True: "equal bits", False: "other bits"}
    return [
        row["kernels"],
        words[row["again_equal"]],
        words[row["resumed_equal"]],
        shown(row["largest_difference"]),
        ", ".join(row["not_deterministic"]) or "nothing",
    ]


def training_lines(letter: str, row: Row) -> list[str]:
    """A paragraph and a picture of a training."""
    lines = ["", f"## Training {letter}", ""]
    if "error" in row:
        return [*lines, row["error"]]
    speeds = ", ".join(f"{size} {shown(rate)}" for size, rate in row["clips_per_s"].items())
    end = "to its end" if row.get("finished") else "until its time was over"
    lines.append(
        f"Loss {row['loss']}, {row['seconds']:.0f} s {end}: {row['clips']:,} clips in "
        f"{row['steps']:,} steps; clips/s by size: {speeds}; peak {shown(row['peak_gib'])} GiB; "
        f"sampling {shown(row['sampled_clips_per_s'])} clips/s."
    )
    picture = f"![training {letter}](sheet-{letter}.png)"
    return [*lines, "", "Eight real clips, then eight generated ones:", "", picture]


# ------------------------------------------------------------------------------------------------


def install_wheels(wheels: Path, site: Path, session: Session) -> None:
    """Unpack wheels that were brought along; nothing is asked of any network."""
    files = sorted(map(str, wheels.glob("*.whl")))
    if files:
        words = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
        session.say(f"{len(files)} wheels of {wheels}")
        ended = end_within(session.start([*words, "--target", str(site), *files]), 60)
        if ended != "finished":
            raise SystemExit(f"the wheels in {wheels} could not be installed: pip {ended}")


def has_card() -> bool:
    """Whether torch sees a card; asked in a child, so that this process holds none of it."""
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def run_parts(session: Session, wanted: Collection[str]) -> None:
    """The parts, one after the other; clips are rendered beside them without the card."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    needs_clips = not {"loader", "resume", *TRAININGS}.isdisjoint(wanted)
    names = ("clips A", "clips B") if needs_clips else ()
    sets = {name: session.start_part(name, 150, **hidden) for name in names}
    trainings = [name for name in TRAININGS if name in wanted]
    needed = 0.0 if session.tiny else len(trainings) * TRAINING_PART_S
    for name, longest in LIMITS_S.items():
        if name == "loader":
            for set_name, rendering in sets.items():
                # The trainings need them too: they may take of the time of these.
                limit = TINY_LIMIT_S if session.tiny else session.left_s / 3
                session.finish(set_name, rendering, limit)
        limit = TINY_LIMIT_S if session.tiny else min(longest, session.left_s - needed)
        if name == "tests" and name in wanted:
            session.run_tests(limit)
        elif name in wanted:
            session.run(name, limit)
    for already, name in enumerate(trainings):
        share_of_rest = session.left_s / (len(trainings) - already)
        session.run(name, TINY_LIMIT_S if session.tiny else share_of_rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="folder of the page (runs/gpu-DATE-TIME)")
    parser.add_argument("--budget", type=float, default=465, help="seconds in all on a card")
    parser.add_argument("--wheels", type=Path, default=ROOT / ".wheels", help="packages to add")
    names = [*LIMITS_S, *TRAININGS]
    parser.add_argument("--parts", nargs="+", choices=names, default=names, help="all")
    given = parser.parse_args()
    tiny = bool(os.environ.get("TINY")) or not has_card()
    out = given.out or ROOT / "runs" / time.strftime("gpu-%Y%m%d-%H%M%S")
    if out.exists() and any(out.iterdir()):
        raise SystemExit(f"{out} holds files; name a new folder with --out (make gpu OUT=FOLDER)")
    out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="vidgan-gpu-"))
    session = Session(out.resolve(), work, given.budget, tiny)
    # Whoever ends this process ends its parts.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        install_wheels(given.wheels, work / "site", session)
        run_parts(session, given.parts)
        session.save()
        session.say(f"{out / 'results.md'}")
    finally:
        session.close()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
