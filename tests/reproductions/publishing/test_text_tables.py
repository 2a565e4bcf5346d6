"""Tables in texts: drawn from records, at marked places, and one rule of rounding."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.core.errors import UserError
from pipeline.reporting import wording
from reproductions import results as stage
from reproductions.publishing import recorded, recording, text_tables

PAGE = "# Words\n\n<!-- table: numbers -->\nold\n<!-- end -->\n\nmore | words\n"


def project(files, table: dict[str, object], page: str = PAGE) -> Path:
    files.manifest("dna", "dna")
    files.codecs("dna", ("zstd", 99.0))
    files.evaluated("dna", "dna-made", 82.125, device="cpu")
    recording.record_experiment("dna-made")
    recording.record_table("dna")
    Path("results/tables.yaml").write_text(yaml.safe_dump({"numbers": table}))
    Path("README.md").write_text(page)
    return Path.cwd()


def written(root: Path) -> str:
    text_tables.write(root)
    return (root / "README.md").read_text()


def test_a_marked_place_is_drawn_and_the_rest_stays(files, monkeypatch) -> None:
    row = {"of": "dna-made", "what": "`{name}`", "with": "dna codec zs"}
    table = {
        "columns": ["model", "nats", "model|data"],
        "cells": ["{what}", "{test} ({rows})", "{hint} {other} {config[model][name]}"],
        "defaults": {"hint": "x|"},
        "rows": [row],
    }
    root = project(files, table)
    monkeypatch.setattr(sys, "argv", ["results", "--tables"])
    stage.main()
    before, _, after = Path("README.md").read_text().partition("<!-- end -->")
    assert before.startswith(
        "# Words\n\n<!-- table: numbers -->\n| model | nats | model\\|data |\n"
    )
    assert "| `dna-made` | 82.12 ± 0.21 (10,000) | x\\| 99.00 ± 0.40 made |\n" in before
    assert after == "\n\nmore | words\n"
    assert text_tables.write(root) == []
    Path("README.md").write_text(PAGE.replace("<!-- end -->", "") + PAGE)
    with pytest.raises(UserError, match="expected an end of each of its 2 tables, got 1"):
        text_tables.write(root)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"of": "dna-made", "what": "{speed}"}, "dna-made: expected its fields, got 'speed'"),
        ({"of": "dna-nade"}, "no record of dna-nade"),
        ({"of": "dna codec FLAC"}, "dna.json: expected one codec FLAC, got"),
        ({"of": "embedded digits digits-made"}, "embedded.csv: missing"),
    ],
)
def test_what_no_record_has_is_named(files, row: dict[str, str], message: str) -> None:
    root = project(files, {"columns": ["a"], "cells": ["{name}"], "rows": [row]})
    with pytest.raises(UserError, match=message):
        text_tables.write(root)


TABLE: dict[str, object] = {"columns": ["a"], "cells": ["{name}"], "rows": [{"of": "dna-made"}]}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE | {"rows": [{"model": "a"}]}, "row 1: expected a record `of` it"),
        (TABLE | {"rows": [{"of": "dna-made", "a": 3}]}, "numbers: a: expected a text, got 3"),
        (TABLE | {"rows": [{"of": "dna-made", "a": "{"}]}, "row 1: dna-made: expected its fields"),
        (TABLE | {"cells": ["{name.a}"]}, "row 1: dna-made: expected its fields"),
        (TABLE | {"cells": ["a", "b"]}, "expected file, search, use, or columns and a cell for"),
        (TABLE | {"columns": 7}, "columns: expected a list, got 7"),
        (TABLE | {"default": {}}, "'default'; did you mean 'defaults'"),
        ({"columns": ["a"], "cells": ["a"], "each": ["runs"]}, "each: expected some of .*embedded"),
        ({"file": "lost.csv"}, "results/lost.csv: expected a table, got .* No such file"),
        ({"file": "empty.csv"}, "results/empty.csv: expected a table, got not enough"),
    ],
)
def test_a_mistake_in_a_table_is_named(files, table: dict[str, object], message: str) -> None:
    root = project(files, table)
    (root / "results/empty.csv").write_text("")
    with pytest.raises(UserError, match=message):
        text_tables.write(root)


def test_embedded_results_are_kept_as_they_are(files) -> None:
    root = project(
        files, {"columns": ["a", "b"], "cells": ["{name}", "{test}"], "each": ["embedded"]}
    )
    path = recording.record_embedded(["dna"])
    lines = recorded.read_lines(path)
    assert [line.experiment for line in lines] == ["dna-made", "zstd"]
    assert lines[0].value == 82.125 and lines[0].unit == "nats" and lines[0].commit
    assert recorded.csv_text(lines) == path.read_text()
    assert f"| dna-made | {lines[0].test} |" in written(root)
    whole = path.read_text()
    path.write_text(whole[: whole.index("zstd") + 4])
    with pytest.raises(UserError, match=r"embedded.csv: line 3: expected numbers"):
        recorded.read_lines(path)
    path.write_text(whole.replace("82.125", "many"))
    with pytest.raises(UserError, match=r"embedded.csv: line 2: expected numbers, .*'many'"):
        recorded.read_lines(path)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (86.155, 2, "86.16"),  # 86.15 in binary
        (90.145, 2, "90.14"),
        (90.14456, 2, "90.14"),
        (2.5, 0, "2"),
        (-0.125, 2, "-0.12"),
        (1e-7, 3, "0.000"),
        (123456.785, 2, "123456.78"),
        (float("inf"), 2, "inf"),
    ],
)
def test_a_half_goes_to_the_even_one(value: float, digits: int, text: str) -> None:
    assert wording.rounded(value, digits) == text


TRIALS = """trial,status,epochs,best_valid_nats,model.skip,trainer.seed,problem
1,finished,2,80.125,False,0,
2,finished,2,80.5,False,1,
3,finished,2,79.0,True,0,
"""


def drawn_of(files, trials: str, **table: object) -> str:
    root = project(files, {"search": "toy"} | table)
    path = root / "results/searches/toy/trials.csv"
    path.parent.mkdir(parents=True)
    path.write_text(trials)
    return written(root)


def test_a_search_is_drawn_with_its_seeds_together(files) -> None:
    drawn = drawn_of(files, TRIALS)
    assert "| skip | seeds | validation nats |\n" in drawn
    assert "| False | 2 | 80.31 ± 0.19 |\n" in drawn  # the half is that of 80.3125
    assert "| True | 1 | 79.00 |\n" in drawn


def test_trials_that_were_stopped_stand_apart(files) -> None:
    """A value after one epoch is no second seed of one after two."""
    drawn = drawn_of(files, TRIALS + "4,stopped,1,85.0,False,2,\n")
    assert "| skip | epochs | seeds | validation nats |\n" in drawn
    assert "| False | 2 | 2 | 80.31 ± 0.19 |\n" in drawn
    assert "| False | 1, stopped | 1 | 85.00 |\n" in drawn


def test_trials_without_a_value_are_left_out(files) -> None:
    """Of a loss that is not finite, and stopped by the time budget before a validation."""
    trials = TRIALS + "4,failed,0,,True,2,not finite\n5,stopped,0,,True,3,\n"
    assert "| True | 1 | 79.00 |\n<!-- end -->" in drawn_of(files, trials)


def test_each_search_and_study_is_a_row_of_what_it_found_and_how_it_ran(files) -> None:
    cells = [f"{{{name}}}" for name in ("link", "trials", "entry", "best", "had", "shares")]
    ran = {"columns": list("abcde"), "each": ["studies", "searches"]}
    ran |= {"cells": ["{link}", "{command}", "{commit}", "{device}", "{took}"]}
    root = project(files, {"columns": list("abcdef"), "cells": cells, "each": ["searches"]})
    folder = root / "results/searches/skips"
    folder.mkdir(parents=True)
    facts = dict.fromkeys(("search", "dataset", "model"), "a") | {"stopped": 0, "failed": 0}
    record = facts | {"trials": 3, "best_trial": 3, "best_valid_nats": 79.0, "seconds": 265.4}
    record |= {"default_valid_nats": 80.5, "commit": "2d98fd1", "device": "cpu (a, 1 thread)"}
    (folder / "search.json").write_text(json.dumps(record))
    (folder / "trials.csv").write_text(TRIALS.replace("79.0", "79.000000"))
    (folder / "importance.csv").write_text("parameter,importance\nmodel.skip,0.9\n")
    assert "| [skips](searches/skips) | 3 | 80.50 | 79.00 | skip True | skip 0.90 |" in written(
        root
    )
    (folder / "search.json").write_text(json.dumps(record | {"default_valid_nats": None}))
    (folder / "importance.csv").write_text("parameter,importance\n")
    assert "| [skips](searches/skips) | 3 | | 79.00 | skip True, seed 0 | |" in written(root)
    study = {"commit": "4fcb2b5", "command": "python -m stages.study race"}
    (root / "results/studies/race").mkdir(parents=True)
    (root / "results/studies/race/study.json").write_text(json.dumps(study))
    (root / "results/tables.yaml").write_text(yaml.safe_dump({"numbers": ran}))
    for trials, took in (([100.0, 160.0], "4.4 min"), ([200, 400], "4.4 min (trials 10.0 min)")):
        (folder / "search.json").write_text(json.dumps(record | {"trial_seconds": trials}))
        drawn = written(root)
        assert f"`2d98fd1` | cpu (a, 1 thread) | {took} |\n" in drawn
    assert "| [race](studies/race) | `python -m stages.study race` | `4fcb2b5` | | |\n" in drawn
    assert "| [skips](searches/skips) | `python -m stages.tune skips` | " in drawn


def test_uses_are_drawn_from_the_gallery(files) -> None:
    root = project(files, {"use": "orderings", "of": "dna-made"})
    part = {
        "part": "orderings", "experiment": "dna-made", "dataset": "dna", "command": "",
        "commit": "", "weights_sha256": "", "notes": "", "shown": [],
        "numbers": [
            {"name": "1 ordering: nats", "value": 80.5, "stderr": 0.25, "unit": "nats"},
            {"name": "1 ordering: above 2", "value": 1.0, "stderr": 0.5, "unit": "nats"},
            {"name": "2 orderings: nats", "value": 79.5, "stderr": 0.25, "unit": "nats"},
        ],
    }  # fmt: skip
    path = root / "results/gallery/dna-made/orderings.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(part))
    drawn = written(root)
    assert "| orderings | nats | above 2 |\n" in drawn
    assert (
        "| 1 ordering | 80.50 ± 0.25 | 1.00 ± 0.50 |\n| 2 orderings | 79.50 ± 0.25 | |\n" in drawn
    )
    table = root / "results/tables.yaml"
    table.write_text(yaml.safe_dump({"numbers": {"use": "orderings", "of": ["dna-made"]}}))
    drawn = written(root)
    assert "| experiment | 1 ordering: nats (nats) |" in drawn and "| `dna-made` | 80.50" in drawn
    other = path.parents[1] / "dna-nade" / path.name
    other.parent.mkdir()
    other.write_text(json.dumps(part | {"experiment": "dna-nade", "numbers": []}))
    both = {"use": "orderings", "of": ["dna-made", "dna-nade"]}
    table.write_text(yaml.safe_dump({"numbers": both}))
    with pytest.raises(UserError, match="dna-nade, orderings: expected the numbers of the first"):
        text_tables.write(root)


TIMED = """trial,status,epochs,best_valid_nats,sampling_seconds,front,model.width,problem
1,finished,2,80.5,0.1,yes,4,
2,finished,2,79.5,0.3,yes,8,
3,finished,2,81.5,0.2,no,6,
4,failed,0,,,no,9,odd
"""


def test_of_two_objectives_the_trials_that_none_beats_are_drawn(files) -> None:
    lines = drawn_of(files, TIMED).split("<!-- table: numbers -->\n")[1].splitlines()
    assert lines[:4] == [
        "| width | validation nats | seconds for 16 |",
        "| --- | --- | --- |",
        "| 8 | 79.50 | 0.3 |",
        "| 4 | 80.50 | 0.1 |",
    ]
    assert lines[4] == "<!-- end -->"
