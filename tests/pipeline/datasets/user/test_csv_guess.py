"""What a table of one's own is taken for, and which cell is named where it is another than most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcore.events import Levels, Real
from pipeline.core.errors import UserError
from pipeline.datasets import adding, catalog
from pipeline.datasets.base import Dataset
from tests.support import own_files

TABLE = "k,n\n" + "a,3\nb,1\n" * 30
REALS = [f"{x:.3f},{y:.3f}\n" for x, y in np.random.default_rng(0).normal(size=(60, 2))]


def add(table: str, *given: str, replace: bool = False) -> tuple[Dataset, list[str]]:
    Path("t.csv").write_text(table)
    return adding.add("csv", "mine", "t.csv", given, replace)


@pytest.mark.parametrize(
    ("table", "given", "message"),
    [
        (TABLE + "a,\n", [], "row 62, column 'n': expected an integer from 0 to 255, got ''$"),
        (TABLE + "a,x7\n", [], "row 62, column 'n': expected an integer from 0 to 255, got 'x7'$"),
        (TABLE + "a,NA\n", [], "row 62, column 'n': expected an integer from 0 to 255, got 'NA'$"),
        (TABLE + "a,999\n", [], "row 62, column 'n': expected an integer from 0 to 255, got '999'"),
        (TABLE + "a,-1\n", ["label=n"], "row 62, column 'n': .* got '-1'; if that is right, say"),
        (TABLE + "7,1\na,\n", [], "row 62, column 'k': expected a name, as most cells are, got"),
        (TABLE + "a,\n", ["conditions=[n]"], "row 62, column 'n': expected a finite number, got"),
        ("a,b\n" + "".join(REALS) + "x,1\n", [], "row 62, column 'a': expected a finite number"),
        (
            "k,n\n" + "a,3\na,1\n" * 30,
            [],
            "column 'k': .* got only 'a'; leave .* drop=.'k'.",
        ),
        ("k,n\n" + ",3\n,1\n" * 30, [], "column 'k': expected numbers or different names, got o"),
        (
            '"i,d",n\n' + "".join(f"m{i},{i % 3}\n" for i in range(300)),
            [],
            "'i,d': expected at most 256 different names, got 300 in 300 rows; leave it out by "
            r"drop=\['i,d'\]",
        ),
        (
            "a,2020\n" + "".join(REALS),
            [],
            "row 1, column '0': expected a finite number, got 'a'; if row 1 has the columns' names,"
            " give header=true",
        ),
        (
            "a,2020,2021\n" + "".join(f"x{i % 2},{row}" for i, row in enumerate(REALS)),
            [],
            "columns 0 are names, others are reals: .*; if row 1 has .* give header=true",
        ),
        ("a;b\n1;2\n0,5;1\n1;3\n", [], "row 3, column 'a': expected numbers with a decimal point"),
    ],
)
def test_the_cell_that_spoils_a_column_is_named(
    table: str, given: list[str], message: str, workdir: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        add(table, *given)
    assert "t.csv: " in str(caught.value) and "\n" not in str(caught.value)
    assert not list(workdir.glob("*.yaml"))


def test_levels_that_are_given_are_not_guessed() -> None:
    dataset, _ = add(TABLE + "7,1\n", "levels={k: [a, b, '7'], n: 4}")
    assert dataset.event == Levels([3, 4])
    Path("conf/mine.yaml").unlink()
    dataset, _ = add(TABLE + "a,999\n", "levels={k: [a, b]}", "conditions=[k]")
    assert dataset.event == Real((1,)) and dataset.condition_size == 2


def test_integers_beyond_bytes_are_reals_where_reals_are() -> None:
    rows = "".join(f"{i % 5},{row}" for i, row in enumerate(REALS))
    dataset, _ = add("n,a,b\n" + rows + "999,1.5,2.5\n")
    assert dataset.event == Real((3,))
    Path("conf/mine.yaml").unlink()
    dataset, _ = add("n,m\n" + "".join(f"{i},{i % 2}\n" for i in range(300)), "conditions=[m]")
    assert dataset.event == Real((1,))


def test_names_that_say_nothing_is_known_are_told() -> None:
    _, found = add("k,n\n" + "a,NA\nb,x\nNA,y\n" * 20)
    assert found[-1] == (
        "beware: taken as names like any other: 'NA' in column 'k' (20 cells); 'NA' in column 'n' "
        "(20 cells); if they mean that nothing is known, leave these rows out"
    )


def test_given_integers_are_standardised_beside_levels_too() -> None:
    own_files.write_cars(Path("cars.csv"))
    given: dict[str, Any] = {"drop": ["price"], "conditions": ["owners"]}
    guessed = adding.GUESSES["csv"]("mine", "cars.csv", given)
    assert guessed["levels"] == {"colour": ["blue", "green", "red"], "doors": 2}
    whole: dict[str, Any] = {"name": "mine", "kind": "csv", "path": "cars.csv", **guessed, **given}
    owners = catalog.get_dataset(whole).decode(Path())["train"].labels  # type: ignore[union-attr]
    assert abs(owners.mean()) < 1e-6 and abs(owners.std() - 1) < 1e-5


def test_how_columns_were_standardised_is_kept_number_by_number() -> None:
    own_files.write_cars(Path("cars.csv"))
    given: dict[str, Any] = {"drop": ["doors"], "conditions": ["colour", "owners"]}
    guessed = adding.GUESSES["csv"]("mine", "cars.csv", given)
    whole: dict[str, Any] = {"name": "mine", "kind": "csv", "path": "cars.csv", **guessed, **given}
    train = catalog.get_dataset(whole).decode(Path())["train"]
    prices = train.scalings["x"].undo(train.x)  # type: ignore[union-attr]
    assert 8500 < prices.mean() < 9500 and 300 < prices.std() < 700
    told = train.scalings["conditions"].undo(train.labels)  # type: ignore[arg-type, union-attr]
    assert set(np.unique(told[:, :3])) == {0, 1}, "names are not standardised"
    assert set(np.round(told[:, 3], 5)) == set(range(7))
    levels = catalog.get_dataset({**whole, "levels": {**guessed["levels"], "owners": 7}})
    assert set(levels.decode(Path())["train"].scalings) == {"x", "conditions"}


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        (["1e40", *["1"] * 59], {"standardize": False}, "column 'b': expected numbers within floa"),
        (["1e-200", "2e-200"] * 30, {}, "column 'b': expected numbers whose squares are finite an"),
    ],
)
def test_numbers_that_no_shard_can_hold_are_named(
    cells: list[str], options: dict[str, Any], message: str
) -> None:
    lines = [f"{number}.5,{cell}" for number, cell in enumerate(cells)]
    Path("t.csv").write_text("a,b\n" + "\n".join(lines) + "\n")
    whole: dict[str, Any] = {"name": "mine", "kind": "csv", "path": "t.csv", **options}
    with pytest.raises(UserError, match=message):
        catalog.get_dataset(whole).decode(Path())


def test_columns_whose_names_have_commas_are_quoted() -> None:
    dataset, found = add('"a,b",c\n' + "".join(REALS))
    assert "columns 'a,b', c" in found[4]
    Path("conf/mine.yaml").unlink()
    dataset, _ = add('"a,b",c\n' + "".join(REALS), "drop=['a,b']")
    assert "columns 'a,b' dropped" in dataset.provenance


def test_columns_that_have_numbers_for_names_are_given_by_them() -> None:
    """YAML reads them as integers; what an error advises must do."""
    table = "".join(f"id{row},{row % 3},{row % 2}\n" for row in range(300))
    with pytest.raises(UserError, match=r"leave it out by drop=\['0'\]"):
        add(table)
    dataset, _ = add(table, "drop=[0]", "label=2")
    assert add(table, "drop=['0']", "label=2", replace=True)[0].event == dataset.event
    assert dataset.event == Levels(3, (1,)) and dataset.num_classes == 2


def test_a_table_without_names_says_how_to_say_so() -> None:
    with pytest.raises(UserError, match="got 'p' twice; if row 1 has none, give header=false"):
        add("p,x,p\n" * 60)


def test_a_path_is_given_once() -> None:
    with pytest.raises(UserError, match="override 'path': expected none together with 't.csv'"):
        add(TABLE, "path=u.csv")
