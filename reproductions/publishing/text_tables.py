"""The pages of datasets, the gallery, and the tables in README, `results/` and docs, from records.

A page has a marked place for each:

    <!-- table: headline -->
    ... (what stands here is replaced)
    <!-- end -->

`results/tables.yaml` says what a table shows, in one of four ways:

    file                    a CSV file of results/
    search                  the trials of a recorded search
    use, of                 what a use measured of one experiment, or of a list of them
    columns, cells, rows    a line for each row: `{name}` in a cell stands for what the row says
                            (or `defaults`), or for a field of the record `of` the row; `{other}`
                            is `test` of the record `with` it

`each` in place of `rows` has a row for each record of some kinds: embedded, searches, studies.
`reproductions.publishing.recorded` says what records and fields there are. `layout: text`
draws aligned columns in place of a Markdown table.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import atomic
from pipeline.core.errors import UserError, explained, require
from pipeline.core.records import Record, require_known, value_of
from pipeline.core.yaml_settings import read_yaml
from pipeline.reporting import searches, tables
from pipeline.reporting.searches import Table
from reproductions.publishing import picture_book, recorded
from reproductions.publishing.picture_book import GalleryPart
from reproductions.publishing.recorded import RecordFields

PAGES = (
    "README.md",
    "results/README.md",
    "results/lecture.md",
    "results/stand_ins.md",
    "docs/*.md",
)
OTHER_PAGES = (  # in results/, of no one dataset
    "README.md", "lecture.md", "marks.md", "log.md", "stand_ins.md", picture_book.PAGE,
)  # fmt: skip
BEGIN = "<!-- table: "
PLACE = re.compile(rf"({BEGIN}([a-z0-9_]+) -->\n)(?:(?!{BEGIN}).)*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class TableEntry(Record):
    """An entry of `tables.yaml`; see the module."""

    layout: str = ""
    file: str = ""
    search: str = ""
    use: str = ""
    of: str | list[str] = ""
    columns: list[str] | None = None
    cells: list[str] | None = None
    defaults: dict[str, str] | None = None
    rows: list[dict[str, str]] | None = None
    each: list[str] | None = None


def write(root: Path) -> list[Path]:
    """Draw every page of a project again; return the changed ones."""
    results, changed = root / "results", []
    pages = drawn(root) | {results / picture_book.PAGE: picture_book.drawn(results)}
    pages |= {path: recorded.read(path.stem, results).markdown for path in dataset_pages(results)}
    for path, text in pages.items():
        if not path.is_file() or text != path.read_text(encoding="utf-8"):
            atomic.write_text(path, text)
            changed.append(path)
    return changed


def dataset_pages(results: Path) -> list[Path]:
    """Return the pages of datasets that a folder of records has."""
    return sorted(path for path in results.glob("*.md") if path.name not in OTHER_PAGES)


def drawn(root: Path) -> dict[Path, str]:
    """Return each page that has marked tables, as the records have them."""
    results = Tables(root / "results")
    pages = sorted(path for pattern in PAGES for path in root.glob(pattern))

    def table(found: re.Match[str]) -> str:
        return found[1] + results.table(found[2]) + found[3]

    texts = {path: path.read_text(encoding="utf-8") for path in pages}
    for path, text in texts.items():
        begun, ended = text.count(BEGIN), len(PLACE.findall(text))
        require(begun == ended, str(path), f"an end of each of its {begun} tables", ended)
    return {path: PLACE.sub(table, text) for path, text in texts.items()}


class Tables:
    """The tables that `results/tables.yaml` describes."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.path = results / "tables.yaml"
        self.described = read_yaml(self.path)
        self._records = RecordFields(results)

    def table(self, name: str) -> str:
        """Return a table as it stands in a page."""
        if name not in self.described:
            raise UserError(f"{self.path}: no table {name}; expected one of {list(self.described)}")
        where = f"{self.path}: {name}"
        described = value_of(self.described, name, dict, str(self.path))
        require_known(described, TableEntry.keys(), where)
        entry = TableEntry.from_dict(described, where)
        header, cells = self._drawn(entry, where)
        if entry.layout == "text":
            return "```text\n" + tables.plain_table(header, cells) + "\n```\n"
        return tables.markdown_table(header, cells) + "\n"

    def _drawn(self, entry: TableEntry, where: str) -> Table:
        if entry.file:
            return _of_file(self.results / entry.file)
        if entry.search:
            return searches.trials(self.results / "searches" / entry.search / "trials.csv")
        if entry.use and isinstance(entry.of, str):
            return of_one(self.results, entry.use, entry.of)
        if entry.use:
            return of_several(self.results, entry.use, entry.of)
        columns, cells = entry.columns or [], entry.cells or []
        fits = 0 < len(columns) == len(cells)
        require(fits, where, "file, search, use, or columns and a cell for each", columns)
        rows = entry.rows or [{"of": name} for name in self._records.names(entry.each or [])]
        return columns, [
            self._line({**(entry.defaults or {}), **row}, cells, f"{where}: row {number}")
            for number, row in enumerate(rows, 1)
        ]

    def _line(self, row: Mapping[str, str], cells: Iterable[str], where: str) -> list[str]:
        require("of" in row, where, "a record `of` it", row)
        measured = dict(self._records.of(row["of"]))
        if "with" in row:
            measured["other"] = self._records.of(row["with"])["test"]
        flaws = (ValueError, LookupError, AttributeError, TypeError)  # of format_map
        with explained(f"{where}: {row['of']}: expected its fields, got", *flaws):
            own = {key: text.format_map(measured) for key, text in row.items()}
            return [cell.format_map({**measured, **own}) for cell in cells]


def of_one(results: Path, use: str, experiment: str) -> Table:
    """Return the numbers "row: column" of a use of one model."""
    rows: dict[str, dict[str, str]] = {}
    for _, one in GalleryPart.read(results, experiment, use).frame.iterrows():
        row, _, column = one["quantity"].partition(": ")
        rows.setdefault(row, {})[column] = tables.number_text(one)
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    lines = [[row, *(cells.get(column, "") for column in columns)] for row, cells in rows.items()]
    return [use.replace("_", " "), *columns], lines


def of_several(results: Path, use: str, experiments: Iterable[str]) -> Table:
    """Return a row for each model that has the use, a column for each of its numbers."""
    parts = [GalleryPart.read(results, experiment, use) for experiment in experiments]
    first = parts[0].frame
    for one in parts:
        fits = list(one.frame["quantity"]) == list(first["quantity"])
        require(fits, f"{one.experiment}, {use}", "the numbers of the first", one.numbers)
    header = [
        f"{one['quantity']} ({one['unit']})".removesuffix(" ()") for _, one in first.iterrows()
    ]
    return ["experiment", *header], [
        [f"`{one.experiment}`", *one.frame.apply(tables.number_text, axis=1)] for one in parts
    ]


def _of_file(path: Path) -> Table:
    with explained(f"{path}: expected a table, got", OSError, csv.Error, ValueError):
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file, strict=True)
    return header, rows
