"""The report's HTML page: one file, figures inside, nothing fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.core import paths
from pipeline.data.manifest import read_manifest
from pipeline.evaluation.results import CodecResult
from pipeline.reporting import figures, gallery, markup, origins, tables, use_sections, wording
from pipeline.reporting.comparison import Report, Row
from pipeline.reporting.markup import Cell, escape
from pipeline.reporting.wording import UNITS, with_error
from pipeline.tracking import mlflow_pages

_KINDS = {
    figures.OURS: "ours (orange dots, with one standard error)",
    figures.CODEC: "codecs and simple models, measured here (green squares)",
    figures.PUBLISHED: "published (grey diamonds)",
}


def html_page(report: Report) -> str:
    """Render a report as one self-contained HTML page: tables, curves, samples, comparison."""
    curves = figures.curves_of(report)
    samples = gallery.gallery(report)
    sections = [
        ("results", "Results", _results(report)),
        ("beside", _beside_title(report), _beside(report)),
        ("curves", "Learning curves", _curves(curves, report) if curves else []),
        ("samples", "Samples", samples),
        ("uses", "Uses", use_sections.sections(report.dataset)),
        ("published", "Published, without a counterpart above", _published(report)),
        ("origins", "Where each row comes from", _origins(report)),
    ]
    sections = [section for section in sections if section[2]]
    links = "".join(markup.link(f"#{name}", title) for name, title, _ in sections)
    body = [
        f'<header><nav aria-label="Page">{markup.link("../index.html", "all reports")}{links}'
        f"</nav><h1>{markup.breakable(report.dataset)}</h1></header>",
        "<main>",
        *(part for name, title, parts in sections for part in _section(name, title, parts)),
        "</main>",
    ]
    return markup.page(f"{report.dataset} - arcore", body)


def _section(name: str, title: str, parts: Sequence[str]) -> list[str]:
    heading = f'<h2 id="{name}">{escape(title)}</h2>'
    return [f'<section aria-labelledby="{name}">{heading}', *parts, "</section>"]


def _anchor(row: Row) -> str:
    return f"row-{markup.identifier(row.result.experiment)}"


def _results(report: Report) -> list[str]:
    """Return the table of our rows and of codecs, and how it is read."""
    matched = any(row.published is not None for row in report.rows)
    bounded = any(row.result.excess is not None for row in report.rows)
    several = any(row.result.num_members > 1 or row.num_averaged > 1 for row in report.rows)
    other = tables.other_unit(report)
    header = ["experiment", f"test ({UNITS[report.unit]})"]
    header += ["published", "difference"] if matched else []
    header += ["entropy bound", "above it"] if bounded else []
    header += [f"test ({UNITS[other]})", "model"] + (["members"] if several else [])
    header += ["coded", "coding"] if report.is_coded else []
    header += ["parameters", "training"]
    lines = []
    for row in report.measured:
        if isinstance(row, CodecResult):
            values = [
                with_error(
                    row.score.value_in(unit, report.event), row.score.stderr_in(unit, report.event)
                )
                for unit in (report.unit, other)
            ]
            line = [Cell(row.label, link="#codecs"), Cell(values[0], number=True)]
            line += [Cell("-")] * (2 * matched + 2 * bounded)
            line += [Cell(values[1], number=True), Cell(row.kind)]
        else:
            line = _our_cells(row, report, matched, bounded, other)
            line += [Cell(wording.members(row.result, row.num_averaged))] if several else []
            if report.is_coded:
                size, speed = wording.coded(row.result, row.evaluated.event, report.unit)
                line += [Cell(size, number=True), Cell(speed, number=True)]
            number = row.result.num_parameters
            line.append(Cell("-" if number is None else f"{number:,}", number=True))
            line.append(Cell(wording.trained(row.result), number=True))
        lines.append(line + [Cell("-")] * (len(header) - len(line)))
    caption = "Test results, best first; a name leads to how its row was made"
    table = markup.table(header, lines, caption)
    return [table, f"<p>{escape(tables.introduction(report, matched))}</p>"]


def _our_cells(row: Row, report: Report, matched: bool, bounded: bool, other: str) -> list[Cell]:
    name = wording.short_name(row.result.experiment, report.dataset)
    line = [
        Cell(name, link=f"#{_anchor(row)}"),
        Cell(row.text_in(report.unit), wording.rows_scored(row.result).strip(), number=True),
    ]
    if matched:
        value, difference, _ = tables.published_cells(row, report.unit)
        doubt = row.published.doubt if row.published else ""
        line.append(Cell(value.removesuffix(doubt), doubt.strip(), number=True))
        line.append(Cell(difference, number=True))
    if bounded:
        line += [Cell(text, number=True) for text in wording.entropy_and_excess(row.evaluated)]
    given = "conditional" if wording.is_conditional(row.evaluated) else ""
    return [*line, Cell(row.text_in(other), number=True), Cell(row.result.model, given)]


def _beside_title(report: Report) -> str:
    shown = figures.kinds_shown(report)
    if figures.PUBLISHED in shown:
        return "Beside published values"
    return "Beside codecs and simple models" if figures.CODEC in shown else "Compared"


def _beside(report: Report) -> list[str]:
    if len(report.rows) + len(report.codecs) + len(report.context) < 2:
        return []
    shown = figures.kinds_shown(report)
    kinds = [words for marker, words in _KINDS.items() if marker in shown]
    caption = f"Test {UNITS[report.unit]}, lower is better: {'; '.join(kinds)}."
    if wording.entropy_in(report.rows[0].evaluated) is not None:
        caption += " Dashed: the entropy bound."
    if omitted := figures.left_out(report):
        caption += f" {omitted.capitalize()}."
    wide, slim = (figures.svg(figures.comparison(report, narrow)) for narrow in (False, True))
    alt = f"Dot plot of the test results of {report.dataset}; the numbers are in the tables"
    return [markup.figure(markup.drawing(wide, slim, alt), escape(caption))]


def _curves(curves: Sequence[figures.Curve], report: Report) -> list[str]:
    wide, slim = (
        figures.svg(figures.learning_curves(curves, report.unit, narrow))
        for narrow in (False, True)
    )
    ends = ", ".join(f"{curve.label} {curve.values[-1]:.4g}" for curve in curves)
    unit = UNITS[report.unit]
    caption = (
        f"Validation {unit} over the time of training, in seconds times processors, validation not "
        "counted. The first epochs may lie above the picture; ↑ marks a curve that ends there."
    )
    alt = f"Learning curves; last validation {unit}: {ends}"
    return [markup.figure(markup.drawing(wide, slim, alt), escape(caption))]


def _published(report: Report) -> list[str]:
    if not report.context:
        return [f"<p>{escape(tables.nothing_published(report))}</p>"]
    header, cells = tables.context_table(report)
    lines = [
        [Cell(name), Cell(value, number=True), Cell(status), Cell(source, link=row.address)]
        for (name, value, status, source), (row, _) in zip(cells, report.context, strict=True)
    ]
    return [markup.table(header, lines, "Published results that none of ours is matched with")]


def _origins(report: Report) -> list[str]:
    """Return, folded away, the settings, commit, commands, data and files of every row."""
    manifest = read_manifest(paths.shards(report.dataset))
    parts = [
        f"<p>{escape(manifest.provenance)}</p>",
        f"<p>Data checksum (SHA-256): <code>{manifest.sha256}</code>. Table: "
        f"{markup.link('table.csv', 'CSV')}, {markup.link('table.md', 'Markdown')}. Addresses of "
        f"MLflow answer while <code>make ui</code> runs; "
        f"{markup.link(mlflow_pages.models_page(), 'registered models')}.</p>",
    ]
    for row in report.rows:
        described = _description(row, manifest.sha256)
        lines = "".join(f"<dt>{escape(term)}</dt><dd>{text}</dd>" for term, text in described)
        name = wording.short_name(row.result.experiment, report.dataset)
        parts.append(
            f"<details><summary>{markup.breakable(name)}</summary>"
            f'<dl id="{_anchor(row)}" tabindex="-1">{lines}</dl></details>'
        )
    if report.codecs:
        parts.append(_codecs(report, manifest.sha256))
    return parts


def _description(row: Row, dataset_sha256: str) -> list[tuple[str, str]]:
    origin = origins.origin_of(row, dataset_sha256)
    result, training = row.result, origin.training
    lines = [
        ("model", f"<code>{escape(result.model)}</code>"),
        ("settings", f"<code>{escape(wording.settings(row.evaluated))}</code>"),
    ]
    if row.published is not None:
        published = f"{row.published.label}: {row.published.source} [{row.published.status}]"
        address = row.published.address
        lines.append(
            ("published", markup.link(address, published) if address else escape(published))
        )
    lines.append(("commit", f"<code>{escape(training and training.commit or 'unknown')}</code>"))
    lines += [("command", f"<code>{escape(command)}</code>") for command in origin.commands]
    lines.append(("data checksum", f"<code>{escape(origin.dataset_sha256)}</code>"))
    if result.device:
        lines.append(("device", escape(result.device)))
    if training is not None and training.epochs is not None:
        lines.append(("epochs", f"{training.epochs}, best {training.best_epoch}"))
    seconds = {"evaluation": result.evaluate_seconds, "sampling": result.sample_seconds}
    lines += [(name, f"{value:.2f} s") for name, value in seconds.items() if value is not None]
    files = [markup.link(address, what) for what, address in origin.files]
    files += [markup.link(origin.run, "MLflow run")] if origin.run else []
    return [*lines, ("files", ", ".join(files) or "none")]


def _codecs(report: Report, dataset_sha256: str) -> str:
    lines = [
        (codec.label, escape(f"{codec.kind}; {codec.settings}; {codec.num_rows:,} test rows"))
        for codec in report.codecs
    ]
    lines.append(("command", f"<code>python -m stages.codecs {escape(report.dataset)}</code>"))
    lines.append(("data checksum", f"<code>{dataset_sha256}</code>"))
    path = f"../../codecs/{report.dataset}.json"
    lines.append(("files", markup.link(path, "measurements (JSON)")))
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{text}</dd>" for term, text in lines)
    return (
        "<details><summary>codecs and simple models</summary>"
        f'<dl id="codecs" tabindex="-1">{terms}</dl></details>'
    )
