"""The verb `demo`."""

from pathlib import Path

from vidgan.cli.common import Words, print_json, print_lines, progress_on_stderr, say


def demo(
    words: Words = (),
    /,
    *,
    scene: str = "shapes",
    out: Path | None = None,
    fresh: bool = False,
    json: bool = False,
) -> None:
    """Render a small labelled set, train on it, sample, evaluate, and write a page.

    About ten minutes on two cores for shapes, up to half an hour where the processor has no
    bfloat16, longer for digits. An interrupted demo goes on where it was.

    Args:
        words: settings that differ from the demo's preset.
        scene: shapes, or digits: handwritten ones in forty classes.
        out: folder of the run; runs/demo, or runs/demo-digits for digits.
        fresh: train the judge anew even if one for this data is kept.
        json: print the whole record of the evaluation.
    """
    from vidgan.comparing.demo import run_demo
    from vidgan.core.files import cache_folder
    from vidgan.evaluation.generators import format_record

    out = out or Path("runs") / ("demo" if scene == "shapes" else f"demo-{scene}")
    judges = None if fresh else cache_folder() / "judges"
    with progress_on_stderr() as progress:
        record = run_demo(out, words, judges, say, progress, scene)
    if json:
        print_json(record.without_clips().to_dict())
    else:
        print_lines(format_record(record))
        print_lines(f"\nopen {out / 'index.html'}")
