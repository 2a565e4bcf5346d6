"""Reports in a terminal: a title, a unit, the best rows and a link for each dataset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.datasets import catalog
from pipeline.reporting import numbers, tables, templates
from pipeline.reporting.tables import Texts
from pipeline.reporting.wording import UNITS

MOST_ROWS, MOST_CONDITIONAL = 10, 3


def show(datasets: Iterable[str] = ()) -> str:
    """Return the best rows of existing reports, aligned for a terminal."""
    existing = (paths.root() / "reports").glob("[!.]*/table.csv")
    names = list(datasets) or sorted(path.parent.name for path in existing)
    if not names:
        raise UserError("reports: none yet; run `make repro` or `dvc repro`")
    return "\n".join(map(_shown, names))


def _shown(dataset: str) -> str:
    path = paths.report(dataset) / "table.csv"
    if not path.is_file():
        catalog.load_config(dataset)  # an unknown one is named, with what is near it
        raise UserError(f"{path}: missing; run `python -m stages.report {dataset}`")
    frame = numbers.read_csv(path)
    rows = tables.results(frame)
    shown, unit = _best(rows), numbers.main_unit(frame)
    columns = ["experiment", "members", "condition", tables.value_column(unit)]
    columns = [name for name in (*columns, "published", "difference") if name in shown[0]]
    return templates.render(
        templates.TERMINAL,
        dataset=dataset,
        unit=UNITS[unit],
        table=tables.plain_table(columns, [[row[name] for name in columns] for row in shown]),
        more=len(rows) - len(shown),
        page=path.with_name("report.html"),
    )


def _best(rows: Sequence[Texts]) -> list[Texts]:
    """Return the best rows, conditional ones among them, which come last."""
    conditional = [row for row in rows if row.get("condition", tables.NONE) != tables.NONE]
    others = [row for row in rows if row not in conditional]
    best = others[: MOST_ROWS - min(MOST_CONDITIONAL, len(conditional))]
    return best + conditional[: MOST_ROWS - len(best)]
