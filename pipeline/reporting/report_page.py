"""The report's HTML page: figures inside, Plotly's script next to it, nothing from elsewhere."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import pandas as pd

from pipeline.core import paths
from pipeline.data.manifest import read_manifest
from pipeline.evaluation.result_records import CodecResult
from pipeline.experiments import naming
from pipeline.experiments.params_file import repro_command, stages_of
from pipeline.reporting import figures, gallery, numbers, tables, templates, wording
from pipeline.reporting.comparison import Made, Report, Row
from pipeline.reporting.tables import Texts
from pipeline.reporting.templates import Cell, HtmlTable, Media, Terms
from pipeline.reporting.wording import UNITS
from pipeline.tracking import mlflow_store
from pipeline.uses.use_records import USES, Shown, UseRecord

LEFT_OUT = ("settings", "device", "source")  # which the origin of each row gives
NOTED = ("experiment", "published", numbers.CODED)  # with what is in parentheses as a note
FIRST = ("experiment", tables.CONDITION, "published", "difference")


def render(report: Report, frame: pd.DataFrame) -> str:
    """Render a report and its numbers as one HTML page."""
    results = tables.results(frame)
    several = frame[frame["kind"] != "use"]["experiment"].nunique() > 1
    dots, curves = figures.dots_of(report), figures.curves_of(report)
    manifest = read_manifest(paths.shards(report.dataset))
    return templates.render(
        templates.REPORT,
        dataset=report.dataset,
        unit=UNITS[report.unit],
        event=wording.described(manifest.event),
        highlights=_highlights(report),
        results=_results(results, report),
        legend=tables.legend(report, list(results[0])),
        dots=dots,
        comparison=figures.comparison(dots) if several else None,
        curves=curves,
        learning_curves=figures.learning_curves(curves, report.unit) if curves else None,
        pictures=gallery.pictures(report),
        sounds=gallery.sounds(report),
        uses=[
            _use_section(name, list(group), numbers.used(frame, name), report.dataset)
            for name, group in groupby(report.uses, key=lambda one: one[0].use)
        ],
        published=_published(frame, report),
        manifest=manifest,
        models_page=mlflow_store.models_page(),
        origins=[
            (anchor(row.result.experiment), row.short_name, _terms(row, manifest.sha256))
            for row in report.rows
        ],
    )


def _highlights(report: Report) -> list[tuple[str, str, Cell]]:
    """Return what, its value and whose it is: the best of our rows, of baselines, of papers."""
    unit = UNITS[report.unit]
    found = [("best model", _value(report.best, report), _name(report.best))]
    conditional = report.best_conditional
    if conditional is not None and conditional is not report.best:
        found.append(("best conditional model", _value(conditional, report), _name(conditional)))
    if (baseline := report.best_baseline) is not None:
        found.append(("best baseline", _value(baseline, report), Cell(baseline.label)))
    if report.published:
        published, value = report.published[0]
        text = f"{published.sign} {wording.rounded(value, 2)}".lstrip()
        found.append(("best published", text, Cell(published.label, link=published.address)))
    if (entropy := report.best.entropy) is not None:
        digits = 3 if report.unit in tables.PER_DIM else 2
        found.append((numbers.ENTROPY, wording.rounded(entropy, digits), Cell("")))
    return [(term, f"{value} {unit}", name) for term, value, name in found]


def _value(row: Row | CodecResult, report: Report) -> str:
    if isinstance(row, CodecResult):
        return wording.with_error(*row.score.in_unit(report.unit, report.event))
    value, error = row.result.score.in_unit(report.unit, report.event)
    return wording.with_error(value, error, wording.SIGNS[row.relation_in(report.unit)])


def _name(row: Row) -> Cell:
    note = f"{tables.CONDITION} {row.condition}" if row.condition else ""
    return Cell(row.short_name, note, link=f"#{anchor(row.result.experiment)}")


def _results(rows: Sequence[Texts], report: Report) -> HtmlTable:
    """Return the table of our rows and of codecs: names lead to origins, remarks are notes."""
    first = [FIRST[0], tables.value_column(report.unit), *FIRST[1:]]
    columns = [name for name in first if name in rows[0]]
    columns += [name for name in rows[0] if name not in (*first, *LEFT_OUT)]
    cells = [[_cell(name, row[name], report) for name in columns] for row in rows]
    caption = "Test results, lower is better; each name links to the origin of its row"
    return HtmlTable(caption, columns, cells)


def _cell(column: str, text: str, report: Report) -> Cell:
    if column not in NOTED and column != tables.value_column(report.unit):
        return Cell(text)
    ours = any(row.result.experiment == text for row in report.rows)
    link = f"#{anchor(text)}" if column == "experiment" and ours else ""
    value, _, note = text.partition(" (")
    return Cell(wording.short_name(value, report.dataset), note.removesuffix(")"), link)


def _published(frame: pd.DataFrame, report: Report) -> HtmlTable:
    rows = tables.published(frame)
    cells = [
        [Cell(text, link=row.address if name == "source" else "") for name, text in texts.items()]
        for texts, (row, _) in zip(rows, report.context, strict=True)
    ]
    caption = "Published results without a counterpart above"
    return HtmlTable(caption, list(rows[0]) if rows else [], cells)


def anchor(experiment: str) -> str:
    """Return the id of an experiment's origin on a page."""
    return f"row-{templates.identifier(experiment)}"


def _terms(row: Row, dataset_sha256: str) -> Terms:
    result, training, published = row.result, row.evaluated.training, row.published
    terms: Terms = [("model", result.model), ("settings", wording.settings(row.evaluated))]
    if published is not None:
        text = f"{published.label}: {published.source} [{published.status}]"
        terms.append(("published", [Cell(text, link=published.address)]))
    terms.append(("commit", (training and training.commit) or "unknown"))
    terms += [("command", command) for command in _commands(row)]
    terms.append(("data checksum", str(row.evaluated.config.dataset_sha256 or dataset_sha256)))
    terms += [("device", result.device)] if result.device else []
    if training is not None and training.epochs is not None:
        terms.append(("epochs", f"{training.epochs}, best {training.best_epoch}"))
    seconds = {"evaluation": result.evaluate_seconds, "sampling": result.sample_seconds}
    terms += [(name, f"{value:.2f} s") for name, value in seconds.items() if value is not None]
    folders = {"model": paths.model(row.evaluated.folder.name), "results": row.evaluated.folder}
    files = [
        Cell(what, link=(Path("..", "..") / folder.relative_to(paths.root())).as_posix())
        for what, folder in folders.items()
        if folder.is_dir()
    ]
    if training is not None and training.run_id:
        files.append(Cell("MLflow run", link=mlflow_store.run_page(training.run_id)))
    return [*terms, ("files", files)]


def _commands(row: Row) -> list[str]:
    name = row.evaluated.folder.name
    if row.result.num_folds > 1:
        return [f"python -m stages.folds {naming.experiment_of(name)}"]
    stages = stages_of(name)
    by_hand = f"python -m stages.{stages[0]} {name} && python -m stages.evaluate {name}"
    return [repro_command(stages[-1], name), by_hand]


def _use_section(
    name: str, made: Sequence[Made], frame: pd.DataFrame, dataset: str
) -> dict[str, object]:
    """Return the values of `uses.html.j2`: numbers and notes of one use, and what it shows."""
    use = USES[name]
    names = {
        record.experiment: wording.short_name(record.experiment, dataset) for record, _ in made
    }
    measured = {name: names[name] for name in frame["experiment"].unique()}
    return {
        "title": use.title,
        "shows": use.shows,
        "table": _use_table(frame, use.title, measured),
        "notes": [
            (", ".join(names[record.experiment] for record, _ in group), text)
            for text, group in groupby(sorted(made, key=_notes), key=_notes)
        ],
        "shown": [
            (names[record.experiment], [_shown(record, folder, one) for one in record.shown])
            for record, folder in made
            if record.shown
        ],
    }


def _use_table(frame: pd.DataFrame, title: str, names: Mapping[str, str]) -> HtmlTable:
    cells = {
        (one["quantity"], one["experiment"]): Cell(tables.number_text(one), one["unit"])
        for _, one in frame.iterrows()
    }
    rows = [
        [Cell(quantity), *(cells.get((quantity, name), Cell(tables.NONE)) for name in names)]
        for quantity in frame["quantity"].unique()
    ]
    return HtmlTable(f"{title}: numbers", ["measured", *names.values()], rows)


def _shown(record: UseRecord, folder: Path, shown: Shown) -> Media:
    path, caption = folder / shown.file, templates.sentence(shown.caption)
    if path.suffix != ".wav":
        return gallery.read_picture(path, f"{record.experiment}: {shown.caption}", caption)
    return Media(content=path.read_bytes(), alt=shown.caption, caption=caption, is_sound=True)


def _notes(one: Made) -> str:
    return one[0].notes
