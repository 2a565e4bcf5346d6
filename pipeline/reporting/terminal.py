"""Reports in a terminal: a title, a unit, the best rows and a link for each dataset."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

import pandas as pd

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.datasets import catalog
from pipeline.reporting import numbers, tables, templates
from pipeline.reporting.wording import UNITS

MOST_ROWS = 10
WIDTH = 120
OPTIONAL = ("difference", "members", "published", "condition")  # the first to go comes first


def show(datasets: Iterable[str] = ()) -> str:
    """Return the best rows of existing reports, aligned for a terminal.

    Arguments:
        datasets: which; all under `reports/` if empty.

    Raises:
        UserError: if one has no report, or is unknown.
    """
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
    table = tables.results(frame)
    fitted = _fitting(table.head(MOST_ROWS), numbers.main_unit(frame))
    return templates.render(
        templates.TERMINAL,
        dataset=dataset,
        unit=UNITS[numbers.main_unit(frame)],
        table=tables.plain_table(list(fitted), fitted.values.tolist()),
        more=max(0, len(table) - MOST_ROWS),
        page=path.with_name("report.html"),
    )


def _fitting(table: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Keep the columns that matter most, fewer where a terminal is narrow."""
    columns = ["experiment", "members", "condition", tables.value_column(unit)]
    columns += [numbers.ABOVE, "published", "difference"]
    columns = [name for name in columns if name in table and set(table[name]) != {tables.NONE}]
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    for name in OPTIONAL:
        widths = (max(len(name), *table[name].str.len()) for name in columns)
        if sum(2 + wide for wide in widths) <= width:
            break
        columns = [one for one in columns if one != name]
    return table[columns]
