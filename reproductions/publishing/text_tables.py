"""The tables in README and docs: made from the records in `results/`, and held in step with them.

A page has a marked place for each:

    <!-- table: headline -->
    ... (what stands here is replaced)
    <!-- end -->

`results/tables.yaml` says what each table shows: its `columns`, its `cells`, and its `rows`. A cell
is text in which `{name}` stands for a field: what a row says (or, for all rows, `defaults`), or
what the record `of` it has; `{other}` is `test` of the record `with` it. Records are

    <experiment>             of results/<experiment>/: name, test (with its error, in the dataset's
                             unit), bits, rows, published, time, valid, entropy, above, importance,
                             importance_rows, and config (all of config.yaml)
    <experiment> member      what a member of an ensemble scores
    <experiment> <split>     what a test split beyond `test` scores
    <dataset> codec <label>  the codec or baseline whose label starts so: name, test
    embedded <dataset> <experiment>  of results/embedded.csv: name, members, test

Instead of `rows`, `embedded: true` gives all of `results/embedded.csv`, `search` the trials of a
recorded search (`samples` adds what a WaveNet sees and bits a sample), `searches: true` what each
search found, `file` a CSV file of `results/` as it is, `levels` what each level of noise of an
experiment costs, as the gallery has it, `use` with `of` what a use measured of one model or of
several, `marks: true` what `reproductions.publishing.targets` says of `results/marks.yaml`, and
`runs: true` where searches and studies come from.
`layout: text` draws aligned columns in place of a Markdown table. Other keys are refused.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pipeline.core import atomic
from pipeline.core.errors import UserError, one_line, require
from pipeline.core.records import require_known, value_of
from pipeline.core.yaml_settings import read_yaml
from pipeline.reporting import numbers, search_tables, tables, wording
from pipeline.reporting.tables import value_column
from reproductions.publishing import (
    embedded,
    recorded,
    runs,
    search_outcomes,
    targets,
    use_tables,
)

Fields = Mapping[str, object]
PAGES = (
    "README.md",
    "results/README.md",
    "results/lecture.md",
    "results/marks.md",
    "results/stand_ins.md",
    "docs/*.md",
)
# what a table is made of, and the keys that go with it
KINDS: Mapping[str, tuple[str, ...]] = {
    "rows": ("columns", "cells", "defaults"),
    "embedded": ("columns", "cells", "defaults"),
    "search": ("samples",),
    "searches": (),
    "file": (),
    "levels": (),
    "use": ("of",),
    "marks": (),
    "runs": (),
}
BEGIN = "<!-- table: "
PLACE = re.compile(rf"({BEGIN}([a-z0-9_]+) -->\n)(?:(?!{BEGIN}).)*?(<!-- end -->)", re.DOTALL)


def write(root: Path) -> list[Path]:
    """Draw every marked table of a project anew; return the pages that changed.

    Raises:
        UserError: for a place without a table or an end, or a missing or malformed record.
    """
    changed = []
    for path, text in drawn(root).items():
        if text != path.read_text(encoding="utf-8"):
            atomic.write_text(path, text)
            changed.append(path)
    return changed


def drawn(root: Path) -> dict[Path, str]:
    """Return each page with its tables as the records have them."""
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
        self._recorded = recorded.reader(results)

    def table(self, name: str) -> str:
        """Return a table as it stands in a page.

        Raises:
            UserError: if none is called so, or naming the row whose cells cannot be filled.
        """
        if name not in self.described:
            raise UserError(f"{self.path}: no table {name}; expected one of {list(self.described)}")
        described = value_of(self.described, name, dict, str(self.path))
        where = f"{self.path}: {name}"
        header, cells = self._drawn(described, where)
        if "layout" not in described:
            return _narrow(header, cells)
        require(described["layout"] == "text", f"{where}: layout", "text", described["layout"])
        return "```text\n" + tables.plain_table(header, cells) + "\n```\n"

    def _drawn(self, described: Mapping[str, Any], where: str) -> tuple[list[str], list[list[str]]]:
        found = [kind for kind in KINDS if kind in described]
        require(len(found) == 1, where, f"one of {', '.join(KINDS)}", list(described))
        kind = found[0]
        require_known(described, (kind, "layout", *KINDS[kind]), where)
        if kind in ("embedded", "searches", "marks", "runs"):
            require(described[kind] is True, f"{where}: {kind}", "true", described[kind])
        elif kind != "rows":
            value_of(described, kind, str, where)
        match kind:
            case "file":
                return _of_file(self.results / described["file"])
            case "levels":
                return use_tables.levels(self.results, described["levels"])
            case "use":
                return self._use(described["use"], described.get("of"), where)
            case "marks":
                return targets.table(self.results, self._recorded)
            case "runs":
                return runs.table(self.results)
            case "search":
                path = self.results / "searches" / described["search"] / "trials.csv"
                if "samples" not in described:
                    return search_tables.trials(path)
                samples = value_of(described, "samples", int, where)
                return search_outcomes.dilations(path, samples)
            case "searches":
                return search_outcomes.outcomes(self.results)
        return self._of_rows(described, where)

    def _use(self, use: str, of: object, where: str) -> use_tables.Table:
        if isinstance(of, str):
            return use_tables.of_one(self.results, use, of)
        fits = isinstance(of, list) and of and all(isinstance(one, str) for one in of)
        require(bool(fits), f"{where}: of", "an experiment or a list of them", of)
        return use_tables.of_several(self.results, use, cast(list[str], of))

    def _of_rows(self, described: Mapping[str, Any], where: str) -> use_tables.Table:
        header = _texts(value_of(described, "columns", list, where), f"{where}: columns")
        cells = _texts(value_of(described, "cells", list, where), f"{where}: cells")
        require(len(cells) == len(header), f"{where}: cells", f"one for each of {header}", cells)
        defaults = value_of({"defaults": {}} | dict(described), "defaults", dict, where)
        rows = self._rows(described, where)
        return header, [
            self._cells(row, defaults, cells, f"{where}: row {number}")
            for number, row in enumerate(rows, 1)
        ]

    def _rows(self, described: Mapping[str, Any], where: str) -> Sequence[object]:
        if "rows" in described:
            return cast(Sequence[object], value_of(described, "rows", list, where))
        lines = embedded.read(self.results / embedded.FILE)
        return [{"of": f"embedded {line.dataset} {line.experiment}"} for line in lines]

    def _cells(
        self, given: object, defaults: Mapping[str, str], cells: Sequence[str], where: str
    ) -> list[str]:
        require(isinstance(given, dict), where, "a mapping", given)
        row = {**defaults, **cast(dict[str, str], given)}
        _texts(row.values(), where)
        if "of" not in row:
            raise UserError(f"{where}: missing of")
        measured = dict(self.fields(row["of"]))
        try:
            if "with" in row:
                measured["other"] = self.fields(row["with"])["test"]
            own = {key: text.format_map(measured) for key, text in row.items()}
            return [cell.format_map({**measured, **own}) for cell in cells]
        except KeyError as error:
            raise UserError(f"{where}: {row['of']}: no field {error}") from None
        except (ValueError, LookupError, AttributeError, TypeError) as error:  # of format_map
            raise UserError(
                f"{where}: {row['of']}: expected texts with fields, got {error}"
            ) from None

    def fields(self, of: str) -> Fields:
        """Return what a record has, by name.

        Raises:
            UserError: for a missing or malformed record.
        """
        first, _, rest = of.partition(" ")
        if first == "embedded":
            return self._embedded(rest)
        kind, _, label = rest.partition(" ")
        if kind == "codec":
            return self._codec(first, label)
        suffix = {"": "", "member": " (a member)"}.get(kind, f" ({kind})")
        return self._experiment(first, first + suffix)

    def _experiment(self, name: str, label: str) -> Fields:
        kept = self._recorded(name.partition("-")[0])
        found = [row for row in kept.report.rows if row.result.experiment == label]
        if not found:
            raise UserError(f"{self.results / name}: no record of {label}")
        result, config = found[0].result, found[0].evaluated.config
        texts, main = kept.texts(label), value_column(kept.report.unit)
        fields: dict[str, object] = {
            "name": name,
            "test": texts[main],
            "bits": texts[value_column("bits_per_dim")],
            "rows": f"{result.num_rows:,}",
            "published": texts.get("published", ""),
            "time": wording.duration(result.train_seconds),
            "entropy": texts.get(numbers.ENTROPY, "-"),
            "above": texts.get(numbers.ABOVE, "-"),
            "config": config.content,
        }
        if result.valid_nats is not None:
            fields["valid"] = wording.rounded(result.valid_nats, 2)
        for row in kept.report.rows:
            if row.approximate and row.evaluated.config == config:
                fields["importance"] = kept.texts(row.result.experiment)[main]
                fields["importance_rows"] = f"{row.result.num_rows:,}"
        return fields

    def _codec(self, dataset: str, label: str) -> Fields:
        kept = self._recorded(dataset)
        found = [one.label for one in kept.report.codecs if one.label.startswith(label)]
        if len(found) != 1:
            got = ", ".join(found)
            what = f"expected one codec {label}, got {got}" if found else f"no codec {label}"
            raise UserError(f"{self.results / 'codecs' / dataset}.json: {what}")
        test = kept.texts(found[0])[value_column(kept.report.unit)]
        return {"name": found[0], "test": test}

    def _embedded(self, which: str) -> Fields:
        for line in embedded.read(self.results / embedded.FILE):
            if f"{line.dataset} {line.experiment}" == which:
                return {"name": line.experiment, "members": line.members, "test": line.test}
        raise UserError(f"{self.results / embedded.FILE}: no line of {which}")


def _texts(values: Iterable[object], where: str) -> list[str]:
    """Refuse what YAML reads as a number or the like, for want of quotes."""
    texts = list(values)
    for value in texts:
        require(isinstance(value, str), where, "texts, in quotes if need be", value)
    return cast(list[str], texts)


def _of_file(path: Path) -> use_tables.Table:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file, strict=True))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a table, got {one_line(error)}") from None
    require(bool(rows), str(path), "a table", "")
    return rows[0], rows[1:]


def _narrow(header: list[str], cells: list[list[str]]) -> str:
    """Render a Markdown table without padding, whose changes are small."""
    lines = [header, ["---"] * len(header), *cells]
    return "".join(_line(line) for line in lines)


def _line(cells: Iterable[str]) -> str:
    text = " | ".join(cell.replace("|", "\\|") for cell in cells)
    return re.sub(r" +", " ", f"| {text} |\n")
