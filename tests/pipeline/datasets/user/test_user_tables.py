"""CSV files of the user's: what is guessed, decoded and kept, and one line for each flaw."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from arcore.events import Levels, Real, Table
from pipeline.core import paths
from pipeline.data import fetching, preprocessing
from pipeline.datasets import adding, base, catalog
from pipeline.datasets.base import Dataset
from pipeline.datasets.tables import csv_table
from pipeline.datasets.tables.csv_table import read_table
from tests.support import own_files
from tests.support.own_files import own, shards
from tests.support.refusals import refused

TABLE = "k,n\n" + "a,3\nb,1\n" * 30
REALS = [f"{x:.3f},{y:.3f}\n" for x, y in np.random.default_rng(0).normal(size=(60, 2))]


def add(table: str | bytes, *given: str, replace: bool = False) -> tuple[Dataset, list[str]]:
    Path("t.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    dataset, found = adding.add("csv", "mine", "t.csv", given, replace)
    return dataset, [str(fact) for fact in found]


def cars(**given: Any) -> tuple[Dataset, dict[str, Any]]:
    own_files.write_cars(Path("cars.csv"))
    levels: Any = catalog.module_of_kind("csv").guess("mine", "cars.csv", given)["levels"]
    return own("csv", path="cars.csv", levels=levels, **given), levels


def test_read_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('\ufeff"a b"; c;who\r\n1;-2.5e1; me\r\n\r\n3;NA;"y\nou"\r\n')
    table = read_table(path, ";")
    assert table.columns.tolist() == ["a b", "c", "who"] and table.index.tolist() == [2, 4]
    assert table.fillna("none").to_numpy().tolist() == [
        ["1", "-2.5e1", "me"],
        ["3", "none", "y\nou"],
    ]
    path.write_bytes(b"1,2\r3,4\r")  # rows that end as on an old Macintosh
    table = read_table(path, header=False)
    assert table.columns.tolist() == ["0", "1"] and table.index.tolist() == [1, 2]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zip"])
def test_compressed_tables_are_bounded(
    workdir: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(f"t.csv{suffix}")
    pd.DataFrame({"a": range(20_000), "b": 0.5}).to_csv(path, index=False)
    assert read_table(path).shape == (20_000, 2)
    monkeypatch.setattr(csv_table, "LEAST_BOUND", 1000)
    monkeypatch.setattr(csv_table, "MOST", 1)
    with refused(rf"t.csv{suffix}: expected at most [0-9,]+ bytes uncompressed, got 'more'"):
        read_table(path)
    path.write_bytes(b"a,b\n1,2\n")
    with refused(f"t.csv{suffix}: expected a table of text: "):
        read_table(path)


@pytest.mark.parametrize(
    ("table", "given", "message"),
    [
        ("", [], "t.csv: expected a table of text: No columns to parse"),
        ("a,b\n", [], "t.csv: expected rows below the header, got 'none'"),
        ("a,b\n1.5,2.5\n\n1,2,3\n", [], "t.csv: expected a table of text: .* line 4, saw 3"),
        ('a,b\n"1,2\n', [], "t.csv: expected a table of text: "),
        ("a,b\n1.5,2.5\nä,1\n".encode("latin-1"), [], "t.csv: expected a table of text: "),
        ("p,x,p\n" * 60, [], "if row 1 has none, give header=false: columns: expected different"),
        ("a\n1.5\n\n2.5\n", [], "row 3, column 'a': expected a finite number, got a missing"),
        ("a,b\n1.5,2.5\n1.5\n", [], "row 3, column 'b': .* number, got a missing value"),
        ("a,b\n" + "".join(REALS) + "1_0,1\n", [], "row 62, column 'a': .* number, got '1_0'"),
        ("a,b\n" + "".join(REALS) + "1,-inf\n", [], "row 62, column 'b': .* number, got '-inf'"),
        ("a,b\n1.5,2.5\n", ["delimiter=xy"], "delimiter: expected one character, no quote"),
        (TABLE + "a,\n", [], r"row 62, column 'n': expected an integer in \[0, 4\), got a missing"),
        (TABLE + "a,x7\n", [], r"row 62, column 'n': expected an integer in \[0, 4\), got 'x7'$"),
        (TABLE + "a,999\n", ["levels={n: 4}"], r"row 62, column 'n': .* in \[0, 4\), got '999'"),
        (TABLE + ",1\n", [], "row 62, column 'k': expected one of a, b, got a missing value"),
        (TABLE + "a,NA\n", ["conditions=[n]"], "row 62, column 'n': expected a finite number, got"),
        ("k,n\n" + "a,3\na,1\n" * 30, [], "column 'k': .*, got 1 names; leave it out by drop="),
        ("k,n\n" + ",3\n,1\n" * 30, [], "column 'k': expected numbers, or 2 to 256 .* got 0 n"),
        (
            '"i,d",n\n' + "".join(f"m{i},{i % 3}\n" for i in range(300)),
            [],
            r"'i,d': .*, got 300 names; leave it out by drop=\['i,d'\]",
        ),
        (
            "a,2020\n" + "".join(REALS),
            [],
            "row 1, column '0': .* number, got 'a'; if row 1 has the columns' names, give header=",
        ),
        ("a;b\n1;2\n0,5;1\n0,7;3\n0,7;3\n", [], r"row 3, column 'a': .* point \(or give decimal=c"),
        ("1,5;2,5;a\n" * 40, [], r"row 2, column '1,5': .* \(or give decimal=comma\), got '1,5'"),
        (
            "a;b\n" + "0.5;1\n0.7;2\n" * 20,
            ["decimal=comma", "header=true"],
            r"row 2, column 'a': .* decimal comma \(or give decimal=point\), got '0.5'",
        ),
        ("t\n" + "2020-01-01\n2020-01-02T10:00\n" * 30, [], r"'t': .* no dates .*=\['t'\]"),
        ("t\n" + "31.12.2020\n1.1.21\n" * 30, [], "row 2, column 't': .* no dates or times .*'31"),
        ("t\n" + "1 days 00:00:05\n10:45\n" * 30, [], "column 't': .* no dates or times .*'1 days"),
        (",b\n" + "0,1.5\n1,2.5\n" * 20, [], r"t.csv: columns: expected names \(or drop=\[''\]\)"),
        (TABLE, ["path=u.csv"], "override 'path': expected none together with 't.csv'"),
    ],
)
def test_flaws_of_tables_that_are_added(table: str | bytes, given: list[str], message: str) -> None:
    with refused(message):
        add(table, *given)
    assert not Path("local").exists()


def test_levels_that_are_given_are_not_guessed() -> None:
    """Of the columns that they name; 0 is for reals."""
    dataset, _ = add(TABLE + "7,1\n", "levels={k: [a, b, '7']}")
    assert dataset.event == Levels([3, 4])
    dataset, _ = add(TABLE, "levels={n: 0}", "conditions=[k]", replace=True)
    assert dataset.event == Real((1,)) and dataset.condition_size == 2


COLUMNS = {  # 300 rows
    "real": ("1.5,2e3,7", "reals"),
    "integers": ("0,1,2", "integers as levels"),
    "years": ("2019,2020,2021", "integers as levels"),
    "signs": ("-1,1", "integers as levels"),
    "whole": ("1.0,2.0,3.0", "reals of few different values"),
    "words": ("x,y", "names"),
    "bools": ("True,False", "names"),
    "many": (",".join(map(str, range(100))), "reals, integers of many different values"),
    "index": (",".join(map(str, range(300))), "reals, integers that all differ .an index.."),
    "some": (",".join(map(str, range(30))), "integers as levels"),
}


def test_every_column_is_printed_with_what_it_was_taken_for() -> None:
    cells = [text.split(",") for text, _ in COLUMNS.values()]
    cells[0] = [f"{i / 7:.3f}" for i in range(299)] + ["7"]
    rows = ["".join(f"{one[i % len(one)]}," for one in cells) + f"{i % 2},a" for i in range(300)]
    table = "\n".join([",".join([*COLUMNS, "given", "left"]), *rows])
    dataset, found = add(table, "drop=[left]", "conditions=[given]")
    printed = "\n".join(found).replace("\n    ", " ")
    for name, (_, kind) in COLUMNS.items():
        assert re.search(rf"(\n|^){kind}[^\n]*: ([^\n]*, |){name}\b", printed)
    for line in (
        "integers as levels: integers 3 (0 to 2), years 3 (2019, 2020, 2021), signs 2 (-1,",
        "names: words 2 (x, y), bools 2 (False, True)",
        "conditions: given",
        "left out: left",
        "\"levels={whole: ['1.0', '2.0', '3.0']}\" makes these values levels",
        "'levels={real: k}' makes whole numbers from 0 to k - 1 levels",
        "'levels={integers: 0}' makes it real",
        "label=words makes it a class to condition on",
        "any column:\n  'conditions=[real]' conditions on it\n  'drop=[real]' leaves it out",
    ):
        assert line in printed
    assert max(map(len, found)) <= 80 and not any(line.startswith("beware") for line in found)
    event = dataset.event
    assert isinstance(event, Table)
    counts = {column.name: column.count for column in event.columns if column.count}
    assert counts == {"integers": 3, "years": 3, "signs": 2, "words": 2, "bools": 2, "some": 30}
    (change,) = re.findall(r'^  "(levels=\{whole: .*)" makes', "\n".join(found), re.M)
    assert add(table, "drop=[left]", change, replace=True)[0].event.columns[4].count == 3
    changed, found = add(
        table, "drop=[left,whole]", "label=years", "levels={many: 100}", replace=True
    )
    assert "class to condition on: years 3 (2019, 2020, 2021)" in found and changed.num_classes == 3
    assert "many 100 (0 to 99)" in " ".join(found)


def test_a_decimal_comma() -> None:
    rows = "".join(row.replace(",", ";").replace(".", ",") for row in REALS)
    dataset, _ = add("a;b\n" + rows, "decimal=comma")
    assert dataset.event == Real((2,))
    commas = shards(dataset)["train"].x
    np.testing.assert_array_equal(
        commas, shards(add("a,b\n" + "".join(REALS), replace=True)[0])["train"].x
    )
    assert add(rows, "decimal=comma", replace=True)[0].options.header is False


def test_an_index_without_a_name_can_be_left_out() -> None:
    dataset, found = add(",b\n" + "".join(f"{i},{i % 7 / 3}\n" for i in range(40)), "drop=['']")
    assert found[0] == "rows: 32 train, 4 valid, 4 test" and dataset.event == Real((1,))


def test_columns_whose_names_have_commas_are_quoted() -> None:
    _, found = add('"a,b",c\n' + "".join(REALS))
    assert "reals: 'a,b', c" in found
    dataset, _ = add('"a,b",c\n' + "".join(REALS), "drop=['a,b']", replace=True)
    assert "without 'a,b'" in dataset.provenance


def test_columns_that_have_numbers_for_names_are_given_by_them() -> None:
    """YAML reads them as integers; what an error advises must do."""
    table = "".join(f"id{row},{row % 3},{row % 2}\n" for row in range(300))
    with refused(r"leave it out by drop=\['0'\]"):
        add(table)
    dataset, _ = add(table, "drop=[0]", "label=2")
    assert add(table, "drop=['0']", "label=2", replace=True)[0].event == dataset.event
    assert dataset.event == Levels(3, (1,)) and dataset.num_classes == 2


def test_names_among_reals_make_one_event_in_the_units_of_the_file() -> None:
    dataset, _ = cars()
    assert isinstance(dataset.event, Table)
    assert [c.levels for c in dataset.event.columns] == [("blue", "green", "red"), 2, 7, None]
    train, price = shards(dataset)["train"].x, dataset.event.columns[3]
    assert train.dtype == np.float64 and 8500 < price.mean < 9500
    assert price.mean == train[:, 3].mean() and price.deviation == pytest.approx(train[:, 3].std())
    assert [len(np.unique(train[:, column])) for column in range(3)] == [3, 2, 7]
    plain = own(
        "csv", path="cars.csv", levels={"colour": ["red", "blue", "green"]}, standardize=False
    )
    assert [column.deviation for column in plain.event.columns] == [1] * 4


def test_a_table_of_levels_and_what_is_given() -> None:
    dataset, levels = cars(drop=["price"], label="colour")
    assert levels == {"colour": ["blue", "green", "red"], "doors": 2, "owners": 7}
    assert dataset.event == Levels([2, 7]) and dataset.num_classes == 3
    rows = [
        (*x, label)
        for part in shards(dataset).values()
        for x, label in zip(part.x, part.labels, strict=True)
    ]
    assert sorted(map(tuple, rows)) == sorted((i % 2, i % 7, (2, 0, 1)[i % 3]) for i in range(60))
    dataset, levels = cars(drop=["price"], conditions=["owners"])
    assert levels == {"colour": ["blue", "green", "red"], "doors": 2}
    owners = shards(dataset)["train"].labels
    assert abs(owners.mean()) < 1e-6 and abs(owners.std() - 1) < 1e-5


def test_how_columns_were_standardised_is_kept_number_by_number() -> None:
    dataset, levels = cars(drop=["doors"], conditions=["colour", "owners"])
    assert dataset.event == Real((1,)) and dataset.condition_size == 4
    train: Any = dataset.decode(Path())["train"]
    prices = train.scalings["x"].undo(train.x)
    assert 8500 < prices.mean() < 9500 and 300 < prices.std() < 700
    told = train.scalings["conditions"].undo(train.labels)
    assert np.array_equal(told[:, :3].sum(1), np.ones(48)) and set(np.unique(told[:, :3])) == {0, 1}
    assert set(np.round(told[:, 3], 5)) == set(range(7))


def test_both_parts_of_a_mixed_table_have_the_same_rows() -> None:
    alone, levels = cars(drop=["price"])
    given = {"levels": {"colour": levels["colour"]}, "conditions": ["colour", "doors", "owners"]}
    told = own("csv", path="cars.csv", standardize=False, **given)
    for one, other in zip(shards(alone).values(), shards(told).values(), strict=True):
        assert one.x[:, 0].tolist() == other.labels[:, :3].argmax(1).tolist()
        assert one.x[:, 1:].tolist() == other.labels[:, 3:].tolist()


@pytest.fixture
def project(workdir: Path) -> Path:
    """A working directory with a table of 50 rows of two numbers, a name and a constant."""
    rng = np.random.default_rng(0)
    lines = [f"{3 * a + 7:.6f};m{i};{b:.6f};5" for i, (a, b) in enumerate(rng.normal(size=(50, 2)))]
    (workdir / "mine.csv").write_text("\n".join(["speed;who;heat;five", *lines]) + "\n")
    return workdir


def mine(**options: Any) -> base.Dataset:
    given = {"path": "mine.csv", "delimiter": ";", "drop": ["who", "five"], "test_fraction": 0.2}
    return catalog.get_dataset({"name": "mine", "kind": "csv", **given, **options})


def test_a_csv_file_is_fetched_split_and_standardised(project: Path) -> None:
    dataset = mine()
    assert dataset.event == Real((2,)) and dataset.unit == "nats"
    parts = {split: data.x for split, data in dataset.decode(fetching.fetch(dataset)).items()}
    assert [len(parts[split]) for split in base.SPLITS] == [35, 5, 10]
    np.testing.assert_allclose(parts["train"].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(parts["train"].std(0), 1, atol=1e-6)
    plain = mine(standardize=False).decode(paths.raw("mine"))
    assert abs(plain["train"].x[:, 0].mean() - 7) < 2
    scale = plain["train"].x.std(0)
    np.testing.assert_allclose(
        parts["test"] * scale, plain["test"].x - plain["train"].x.mean(0), atol=1e-4
    )
    other = mine(standardize=False, split_seed=1).decode(paths.raw("mine"))
    assert not np.array_equal(other["test"].x, plain["test"].x)
    # Without the original the copy serves; a changed original is noticed.
    text = Path("mine.csv").read_text()
    Path("mine.csv").unlink()
    assert mine().files == dataset.files
    Path("mine.csv").write_text(text.replace(";5\n", ";6\n"))
    changed = "mine.csv: changed since it was fetched; run python -m stages.fetch mine"
    with refused(changed):
        preprocessing.preprocess(mine())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "other.csv"}, "option path of dataset 'mine': expected an existing file, got 'o"),
        ({"delimiter": ";;"}, "option delimiter of dataset 'mine': expected a character, got ';;'"),
        ({"drop": ["who", "fife"]}, "unknown column of .*mine.csv 'fife'; did you mean 'five'"),
        ({"drop": [1.5]}, r"option drop of dataset 'mine': expected a valid string, got \[1.5\]"),
        ({"drop": ["speed", "who", "heat", "five"]}, "expected a column that is not"),
        ({"test_fraction": 0.0}, r"option test_fraction .*: expected in \(0, 1\), got 0.0"),
        ({"pth": "x"}, "unknown mine option 'pth'; did you mean 'path'"),
        ({"kind": "tsv"}, "unknown kind of dataset 'tsv'"),
        ({"name": "../mine"}, "expected a new name of letters, digits and '_' .* got '../mine'"),
        ({"drop": ["who"]}, "column 'five': expected different values, got 5 in all training rows"),
        ({"drop": ["five"]}, "row 2, column 'who': expected a finite number, got 'm0'"),
        ({"test_fraction": 0.95}, r"each of train, valid and test \(two\), got 50 rows with"),
        ({"valid_fraction": 0.001}, "expected rows for each of train, valid and test"),
        (
            {"path": "huge.csv", "drop": [], "standardize": False},
            "column 'b': expected numbers within floa",
        ),
        (
            {"path": "tiny.csv", "drop": []},
            "column 'b': expected numbers whose squares are finite an",
        ),
    ],
)
def test_bad_tables_are_one_clear_line(project: Path, options: dict, message: str) -> None:
    cells = {"huge": ["1e40", *["1"] * 59], "tiny": ["1e-200", "2e-200"] * 30}
    for name, column in cells.items():
        lines = [f"{number}.5;{cell}" for number, cell in enumerate(column)]
        Path(f"{name}.csv").write_text("a;b\n" + "\n".join(lines) + "\n")
    with refused(message):
        mine(**options).decode(project)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": {"doors": 2}}, "row 2, column 'colour': expected a finite number, got 'red'"),
        ({"levels": {"door": 2}}, "unknown column of .*cars.csv 'door'; did you mean 'doors'"),
        ({"levels": {"doors": 1}}, "option levels .*: expected 2 to 256, got"),
        ({"label": "doors"}, "option label of dataset 'mine': expected a column of levels"),
        ({"label": "doors", "conditions": ["owners"]}, "option conditions .*: expected none"),
        ({"conditions": ["owners"] * 2}, "option conditions .*: expected different columns"),
        (
            {"conditions": ["colour", "doors", "owners", "price"]},
            "option conditions of dataset 'mine': expected a column that is not given",
        ),
        (
            {"conditions": ["owners"], "levels": {"owners": 6}, "drop": ["colour"]},
            r"cars.csv: row 8, column 'owners': expected an integer in \[0, 6\), got '6'",
        ),
        (
            {"conditions": ["colour"], "levels": {"colour": ["red", "blue"]}},
            "cars.csv: row 4, column 'colour': expected one of red, blue, got 'green'",
        ),
    ],
)
def test_bad_columns_are_one_clear_line(project: Path, options: dict, message: str) -> None:
    own_files.write_cars(Path("cars.csv"))
    with refused(message):
        mine(**{"path": "cars.csv", "delimiter": ",", "drop": [], **options}).decode(project)


def test_a_conf_file_makes_a_dataset(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = {"name": "mine", "kind": "csv", "path": "mine.csv", "delimiter": ";"}
    (project / "mine.yaml").write_text(yaml.safe_dump(described | {"drop": ["who", "five"]}))
    monkeypatch.setattr(catalog, "CONF_FOLDER", project)
    loaded = catalog.load_settings("mine", ["split_seed=3"])
    assert catalog.get_dataset(loaded).options.split_seed == 3
    with refused("unknown dataset 'mime'; did you mean 'mine'"):
        catalog.load_settings("mime")
    with refused("override 'kind=digits'"):
        catalog.load_settings("mine", ["kind=digits"])
