"""Reading runs and records into one comparison, which separates scores that do not compare."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidgan.comparing.systems import Result, label_systems, without_repeats
from vidgan.core.files import write_text_atomically
from vidgan.core.settings import load_yaml
from vidgan.errors import UserError
from vidgan.evaluation.metric import metric_title
from vidgan.evaluation.record_checks import (
    CheckedRecord,
    read_checked_record,
    read_run_records,
)
from vidgan.evaluation.record_types import Record
from vidgan.models import MODEL_VARIANTS, list_models, model_config_class
from vidgan.models.conformance.sheet import conformance_sheet
from vidgan.report.comparison import (
    FORMS,
    Cell,
    Column,
    Comparison,
    Gallery,
    Row,
    Table,
    known_facts,
)
from vidgan.report.page import duration, number
from vidgan.report.remarks import of_seeds
from vidgan.report.scores import basis_of, sentences_on
from vidgan.sampling.storage import EVALS_FOLDER, read_best
from vidgan.training.presets import (
    CONFIG_FILE,
    config_from_dict,
    config_to_dict,
    load_run_config,
)
from vidgan.training.run_folder import count_parameters, device_of, device_seconds, media_of

NOT_SHOWN = {"frozen", "reversed"}
"""Controls shown in records alone: shuffled frames measure motion too."""
TRAINED_ON = "trained on"
REFERENCE_TOLERANCE = 1e-4
"""Share of a score by which its real reference and floor may differ between machines."""


def compare(sources: Sequence[str | Path], title: str = "Comparison") -> Comparison:
    """Put the evaluations of several runs side by side.

    Scores share a table only if protocol, number of clips, judge and real clips are the same;
    otherwise there are several tables, and each says how it differs from the first one. They share
    a row only if settings and generator are those of one system. A record that may have been
    edited is marked, one that contradicts itself is refused.

    Args:
        sources: run folders, each with its newest record of every protocol (of the best checkpoint
            if that has one), evaluated folders of clips, and record files.
        title: of the page.

    Raises:
        UserError: a source is neither, a record file contradicts itself, or none of them was
            evaluated.
    """
    return compare_results(*read_results({str(source): None for source in sources}), title)


def write_comparison(comparison: Comparison, *files: Path) -> None:
    """Write a comparison in the form that each file's suffix names.

    Raises:
        UserError: another suffix.
    """
    for file in files:
        if file.suffix not in FORMS:
            raise UserError(f"{file}: a comparison is written as {', '.join(FORMS)}")
        write_text_atomically(file, FORMS[file.suffix](comparison))


def read_results(sources: Mapping[str, str | None]) -> tuple[list[Result], list[str]]:
    """Records of runs and record files, and a sentence for each run without any.

    Args:
        sources: path and label; None takes the label from the settings.

    Raises:
        UserError: a path is neither a run folder nor a record.
    """
    results, left_out = [], []
    for source, label in sources.items():
        path = Path(source)
        if path.is_file():
            results.append(_result(read_checked_record(path), path, label))
            continue
        # Else a folder of clips that another program generated, or what runs/* matches besides.
        has_settings = (path / CONFIG_FILE).exists()
        is_run = has_settings or not any((path / EVALS_FOLDER).glob("*.json"))
        if path.is_dir() and is_run and not has_settings:
            left_out.append(f"{path} is not a run folder: it holds no {CONFIG_FILE}")
            continue
        settings = run_settings(path) if is_run else None
        records, refused = latest_records(path, settings)
        results += [_result(found, path, label, settings) for found in records]
        left_out += refused
        if not (records or refused):
            left_out.append(f"{path} was never evaluated: run vidgan evaluate {path}")
    return results, left_out


def _result(
    found: CheckedRecord, path: Path, label: str | None, settings: Mapping[str, Any] | None = None
) -> Result:
    return Result(
        record=found.record,
        run=path if settings else None,
        settings=settings or {},
        label=label,
        source=str(path),
        marks=tuple(f"{path}: {mark}" for mark in found.marks),
        is_sealed=found.is_sealed,
    )


def run_settings(run: Path) -> dict[str, Any]:
    """Settings of a run as plain values; its scores count where the model's package is missing.

    Raises:
        UserError: no run folder, or its settings are damaged.
    """
    try:
        return config_to_dict(load_run_config(run))
    except UserError:
        written = load_yaml(run / CONFIG_FILE) if (run / CONFIG_FILE).is_file() else {}
        model = written.get("model")
        if not isinstance(model, Mapping) or _is_installed(model.get("name")):
            raise
        others = written | {"model": {"name": list_models()[0]}}
        return config_to_dict(config_from_dict(others, str(run))) | {"model": dict(model)}


def _is_installed(model: Any) -> bool:
    try:
        model_config_class(str(model))
    except UserError:
        return False
    return True


def latest_records(
    run: Path, settings: Mapping[str, Any] | None
) -> tuple[list[CheckedRecord], list[str]]:
    """For each protocol the newest record, of the best checkpoint if one was chosen.

    Args:
        run: the run folder, or an evaluated folder of clips.
        settings: of the run as plain values.

    Returns:
        The records, and a sentence for each file that is none of this run or contradicts itself.
    """
    best = (read_best(run) or {}).get("step")
    records, refused = read_run_records(run, settings)
    chosen: dict[str, CheckedRecord] = {}
    for found in records:
        name = found.record.protocol_id
        is_best = best is not None and found.record.generator.step == best
        was_best = name in chosen and chosen[name].record.generator.step == best
        if name not in chosen or (is_best and not was_best):
            chosen[name] = found
    return list(chosen.values()), refused


def compare_results(
    results: Sequence[Result], left_out: Iterable[str], title: str, **facts: Any
) -> Comparison:
    """The comparison of results that were read already.

    Raises:
        UserError: there are none.
    """
    left_out = tuple(left_out)
    if not results:
        raise UserError(f"nothing to compare: {'; '.join(left_out) or 'name runs or records'}")
    results = without_repeats(results)
    labels = label_systems(results)
    by_basis: dict[str, list[int]] = {}
    for index, result in enumerate(results):
        by_basis.setdefault(json.dumps(basis_of(result.record), sort_keys=True), []).append(index)
    groups = sorted(by_basis.values(), key=lambda group: (-len(group), group[0]))
    first = basis_of(results[groups[0][0]].record)
    tables = tuple(
        make_table([results[i] for i in group], [labels[i] for i in group], first)
        for group in groups
    )
    return Comparison(
        title=title,
        tables=tables,
        galleries=tuple(galleries(results, labels)),
        facts=known_facts(facts),
        left_out=left_out,
    )


# ------------------------------------------------------------------------------------------------
# Tables and their rows


RATIOS = {
    "diversity": "Spread inside classes, over that of real clips",
    "motion": "Change from frame to frame, over that of real clips",
}
"""Parts of a record whose `ratio` is 1 for a perfect generator."""

Key = tuple[str, str]
"""Part of a record, and the name in it."""


def make_table(results: Sequence[Result], labels: Sequence[str], first: dict[str, str]) -> Table:
    """The table of results with one basis."""
    basis = basis_of(results[0].record)
    # References are those of records that nothing is said against, as far as there are any.
    trusted = sorted(results, key=lambda result: len(result.marks) > 0)
    columns, keys = _columns([result.record for result in trusted])
    off = {id(result): _off_reference(result, columns, keys) for result in results}
    rows = []
    for label in dict.fromkeys(labels):
        named = [result for result, name in zip(results, labels, strict=True) if name == label]
        group, repeats = _one_of_each_seed(named)
        cells = tuple(
            Cell(values=tuple(v for r in group if (v := _value(r.record, key)) is not None))
            for key in keys
        )
        marks = dict.fromkeys(mark for result in group for mark in result.marks)
        told = (said for result in group for said in off[id(result)])
        warnings = of_seeds([result.record.warnings for result in group])
        remarks = (*marks, *warnings, *repeats, *told)
        rows.append(Row(label=label, facts=_facts(group), cells=cells, remarks=remarks))
    return Table(
        basis=basis,
        differs=sentences_on(first, basis),
        columns=columns,
        rows=without_common_device(rows),
        sentence=trusted[0].record.sentence,
    )


def _one_of_each_seed(group: Sequence[Result]) -> tuple[list[Result], list[str]]:
    """The first result of each seed of a system, and a remark on each further one.

    Runs of one seed begin with the same weights and see the same clips in the same order: the range
    over them says nothing of other seeds.
    """
    kept: list[Result] = []
    first: dict[Any, Result] = {}
    repeats = []
    for result in group:
        seed = result.settings["seed"] if result.settings else None
        before = result if seed is None else first.setdefault(seed, result)
        if before is result:
            kept.append(result)
            continue
        repeats.append(
            f"{before.source or 'one run'} and {result.source or 'another one'} were trained with "
            f"the same seed {seed}: they count as one, and the scores are those of the former"
        )
    return kept, repeats


def _off_reference(
    result: Result, columns: Sequence[Column], keys: Sequence[Key]
) -> tuple[str, ...]:
    """How a record's references differ from those of its column, though they are of one set."""
    said = []
    for column, (part, name) in zip(columns, keys, strict=True):
        score = result.record.scores.get(name) if part == "scores" else None
        if score is None:
            continue
        told: dict[str, float | None] = {"real": score.real, "floor": score.floor, **score.controls}
        stands = {"real": column.real, "floor": column.floor, **column.controls}
        scale = max(abs(value or 0.0) for value in (score.value, score.real, score.floor))
        said += [
            f"{result.source or 'one record'}: {name} of {key} is {number(told.get(key))} and not "
            f"{number(value)} as in the column"
            for key, value in stands.items()
            if _is_off(value, told.get(key), REFERENCE_TOLERANCE * scale)
        ]
        if score.better != column.better:
            said.append(f"{result.source or 'one record'}: {name} is better when {score.better}")
    return tuple(said)


def _is_off(one: float | None, other: float | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one != other
    return abs(one - other) > tolerance


def _columns(records: Sequence[Record]) -> tuple[tuple[Column, ...], list[Key]]:
    """Metrics that any record has, each with its real reference and floor."""
    columns: dict[Key, Column] = {}
    for record in records:
        for name, score in record.scores.items():
            columns.setdefault(
                ("scores", name),
                Column(
                    title=metric_title(name),
                    better=score.better,
                    real=score.real,
                    floor=score.floor,
                    controls={k: v for k, v in score.controls.items() if k not in NOT_SHOWN},
                ),
            )
        agreement = record.agreement or {}
        for part, share in (agreement.get("generated") or {}).items():
            if share is not None:
                columns.setdefault(
                    ("agreement", part),
                    Column(
                        title=f"Judged as the asked {'class' if part == 'joint' else part}",
                        better="higher",
                        real=(agreement.get("heldout") or {}).get(part),
                        percent=True,
                    ),
                )
        for part, title in RATIOS.items():
            if _value(record, (part, "")) is not None:
                columns.setdefault((part, ""), Column(title=title, better="nearer to 1", real=1.0))
        for space in record.memorisation:
            columns.setdefault(
                ("memorisation", space),
                Column(
                    title=f"Nearest training clip, over that of real clips ({space})",
                    better="higher",
                    real=1.0,
                ),
            )
    return tuple(columns.values()), list(columns)


def _value(record: Record, key: Key) -> float | None:
    part, name = key
    if part == "scores":
        return record.scores[name].value if name in record.scores else None
    found: Any = {
        "agreement": ((record.agreement or {}).get("generated") or {}).get(name),
        "memorisation": (record.memorisation.get(name) or {}).get("ratio"),
        "diversity": (record.diversity or {}).get("ratio"),
        "motion": (record.motion or {}).get("ratio"),
    }[part]
    return None if found is None else float(found)


def _facts(group: Sequence[Result]) -> dict[str, str]:
    """Seeds, sizes and cost of one system."""
    runs = [result.run for result in group if result.run]
    seeds = sorted(int(result.settings["seed"]) for result in group if result.settings)
    costs = [cost for run in runs if (cost := device_seconds(run)) is not None]
    steps = [result.record.generator.step for result in group]
    known = [step for step in steps if step is not None]
    has_cost = len(costs) == len(known) and sum(known) > 0
    a_step = sum(costs) / sum(known) if has_cost else None
    is_known = bool(runs) and _is_installed(group[0].settings["model"]["name"])
    generator, discriminator = (is_known and count_parameters(runs[0])) or (None, None)
    return {
        "seeds": ", ".join(map(str, seeds)),
        "generator parameters": number(generator) if generator else "",
        "discriminator parameters": number(discriminator) if discriminator else "",
        "steps": number(round(sum(known) / len(known))) if known else "",
        "device-hours a run": _hours(sum(costs) / len(costs)) if costs else "",
        "device time a step": f"{1000 * a_step:.1f} ms" if a_step else "",
        TRAINED_ON: ", ".join(sorted({name for run in runs if (name := device_of(run))})),
    }


def without_common_device(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows without the device if all were trained on one; else hours cannot be compared."""
    if len({row.facts[TRAINED_ON] for row in rows} - {""}) > 1:
        return tuple(rows)
    return tuple(
        replace(row, facts={k: v for k, v in row.facts.items() if k != TRAINED_ON}) for row in rows
    )


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{hours:{',.1f' if hours >= 10 else '.3f'}} ({duration(seconds)})"


# ------------------------------------------------------------------------------------------------
# What a person looks at


def galleries(results: Sequence[Result], labels: Sequence[str]) -> list[Gallery]:
    """The newest clips, walk and predictions of the first run of each system."""
    shown: dict[str, Gallery] = {}
    for result, label in zip(results, labels, strict=True):
        if result.run is None or label in shown:
            continue
        media = tuple(media_of(result.run))
        if media:
            name = str(result.settings["model"]["name"])
            shown[label] = Gallery(label=label, media=media, deviations=deviations(name))
    return list(shown.values())


def deviations(model: str) -> tuple[str, ...]:
    """Where a model departs from its source: its `DIFFERENCES`, and its conformance sheet."""
    try:
        cls = model_config_class(model)
    except UserError as error:
        return (f"not known here: {error}",)
    found = dict.fromkeys(cls.DIFFERENCES)
    try:
        rows = conformance_sheet(MODEL_VARIANTS.name_of(cls)).rows
    except UserError:
        rows = ()
    found |= {f"{row.network}, {row.layer}: {row.remark}": None for row in rows if row.remark}
    return tuple(found)
