"""Marks: what is missing, what the curves say limits it, and one panel a curve."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
import yaml

from arcore import events
from pipeline.core.errors import UserError
from reproductions.publishing import recording, target_curves, targets
from reproductions.publishing.target_curves import Panel, TrainingCurve
from tests.support.trainings import TRAINING

LN2 = math.log(2)
HEADER = "epoch,step,learning_rate,train_nats,valid_nats,valid_bits_per_dim\n"


def project(files, *rows: dict[str, object], history: str) -> Path:
    """A project that has recorded 82.125 test nats."""
    files.manifest("dna", "dna")
    files.evaluated("dna", "dna-made", 82.125, device="cpu")
    recording.record_experiment("dna-made")
    results = Path("results")
    (results / "dna-made" / "history.csv").write_text(HEADER + history)
    (results / targets.FILE).write_text(yaml.safe_dump({"budget_hours": 0.001, "rows": list(rows)}))
    return results


@pytest.mark.parametrize(
    ("history", "limited"),
    [
        ("1,10,1,82.0,83,1\n2,20,1,81.8,82.2,1\n3,30,1,81.7,82.1,1\n", "underfitting"),
        ("1,10,1,84.0,85,1\n2,20,1,83.8,84.2,1\n3,30,1,82.0,82.1,1\n", "time"),
        ("1,10,1,80.0,83,1\n2,20,1,79.8,82.2,1\n3,30,1,79.7,82.1,1\n", "overfitting"),
        ("1,10,1,82.9,83,1\n2,20,1,81.9,82.0,1\n3,30,1,82.1,82.9,1\n", "overfitting"),
        ("1,10,1,80.0,83,1\n2,20,1,79.8,84.2,1\n3,30,1,79.0,81.5,1\n", "overfitting, time"),
    ],
    ids=["as high on what it learns", "still falling", "training far below", "rose again", "both"],
)
def test_curves_say_what_limits(files, history: str, limited: str) -> None:
    row = {"system": "MADE", "of": "dna-made", "mark": 80.0, "overrides": "model.hidden=[9]"}
    results = project(files, row, history=history)
    header, (cells,) = targets.table(results)
    found = dict(zip(header, cells, strict=True))
    assert found["missed by"] == "2.12"
    assert found["limited by"] == limited
    assert found["goes on with"] == "`python -m stages.train dna-made model.hidden=[9]`"


def test_negative_nats_rise_too() -> None:
    falling = target_curves.TrainingCurve(
        valid=((1, -9.0), (2, -10.0)), train=((1, -9.0),), hours=1.0
    )
    rising = target_curves.TrainingCurve(
        valid=((1, -10.0), (2, -9.0)), train=((1, -9.0),), hours=1.0
    )
    assert (falling.rose, rising.rose) == (False, True)


def test_hours_are_those_of_one_thread(files) -> None:
    row = {"system": "MADE", "of": "dna-made", "mark": 80.0}
    results = project(files, row, history="1,10,1,84.0,85,1\n")
    path = results / "dna-made/training.json"
    record = json.loads(path.read_text()) | {"train_seconds": 7200.0}
    for device, hours in (("cpu (a, 1 thread)", "2.0"), ("cpu (a, 2 threads)", "4.0")):
        path.write_text(json.dumps(record | {"device": device}))
        header, (cells,) = targets.table(results)
        assert dict(zip(header, cells, strict=True))["hours"] == hours


def test_a_mark_that_is_met_needs_nothing_and_one_without_a_record_is_not_run(files) -> None:
    rows = [
        {"system": "MADE", "of": "dna-made", "mark": 82.2},
        {"system": "more", "of": None, "mark": 80.0, "train": "dna-made"},
    ]
    results = project(files, *rows, history="1,10,1,84.0,85,1\n")
    _, (met, absent) = targets.table(results)
    assert met[:4] == ["MADE", "82.12 ± 0.21", "82.2", "met"] and not any(met[5:])
    assert absent[:3] == ["more", "not run", "80"]
    assert absent[-1] == "`python -m stages.train dna-made`"
    drawn = targets.write(results)
    assert drawn is not None and targets.write(results) is None


def test_a_mark_of_many_orderings_is_read_from_the_use_that_scored_them(files) -> None:
    row = {"system": "sixteen", "of": "dna-made", "orderings": 16, "mark": 80.0}
    results = project(files, row, history="1,10,1,84.0,85,1\n")
    part = {
        "part": "orderings", "experiment": "dna-made", "dataset": "dna", "command": "", "notes": "",
        "commit": "", "weights_sha256": "", "shown": [],
        "numbers": [
            {"name": "1 ordering: nats", "value": 82.0, "stderr": 0.4},
            {"name": "16 orderings: nats", "value": 80.5, "stderr": 0.3},
        ],
    }  # fmt: skip
    path = results / "gallery/dna-made/orderings.json"
    _, (cells,) = targets.table(results)
    assert cells[1] == "not run"
    assert cells[-1] == "`python -m stages.use orderings dna-made`"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(part))
    _, (cells,) = targets.table(results)
    assert cells[:4] == ["sixteen", "80.50 ± 0.30", "80", "0.50"]
    path.write_text(json.dumps(part | {"numbers": []}))
    with pytest.raises(UserError, match=r"orderings.json: no number '16 orderings: nats'"):
        targets.table(results)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"system": "MADE", "of": "dna-nade", "mark": 1.0}, "dna-nade"),
        ({"system": "MADE", "of": "dna-made"}, "row 1: missing mark"),
        ({"system": "MADE", "of": "dna-made", "mark": 1.0, "approximate": True}, "no estimate of"),
        (
            {"system": "MADE", "of": "dna-made", "mark": 1.0, "overides": "a=1"},
            "unknown key of .*marks.yaml: row 1 'overides'; did you mean 'overrides'",
        ),
        ({"system": "a", "of": None, "mark": 1.0}, "row 1: train: expected an experiment, since"),
        (
            {"system": "a", "of": "dna-made", "mark": 1.0, "orderings": 2, "approximate": True},
            "row 1: orderings: expected an experiment as `of`, exactly scored, got 'dna-made",
        ),
        (["MADE"], "row 1: expected a mapping, got"),
    ],
)
def test_what_is_amiss_is_named(files, row: dict[str, object], message: str) -> None:
    results = project(files, row, history="1,10,1,84.0,85,1\n")
    with pytest.raises(UserError, match=message):
        targets.table(results)


def test_an_unknown_key_beside_the_rows_is_named(files) -> None:
    results = project(files, history="")
    given = {"budget_hours": 1, "rows": [], "row": []}
    (results / targets.FILE).write_text(yaml.safe_dump(given))
    with pytest.raises(UserError, match=r"unknown key of .*marks.yaml 'row'; did you mean 'rows'"):
        targets.table(results)


@pytest.mark.parametrize(
    ("unit", "model", "event", "history", "valid", "train"),
    [
        (  # bits of dequantised levels: the bins shift each value, and scale none
            "bits_per_dim", {"name": "rnade"}, events.Real((2,), bin_width=0.5),
            f"1,1,1,{4 * LN2},{2 * LN2},2.0\n2,2,1,{LN2},0.0,1.0\n", (2.0, 1.0), (3.0, 1.5),
        ),
        (  # 19 frames are learned from, whichever are scored
            "nats_per_frame", {"name": "video_pixel_baseline", "context_frames": 1},
            events.Binary((20, 1, 8, 8)), "1,1,1,1900,950,1\n", (50.0,), (100.0,),
        ),
        (  # sounds of training are of other lengths than those of validation
            "bits_per_dim", {"name": "wavenet"}, events.Levels(4, (None,)),
            f"1,1,1,{30 * LN2},,\n2,2,1,{20 * LN2},{10 * LN2},1.0\n", (1.0,), (),
        ),
    ],
    ids=["bins", "frames", "open length"],
)  # fmt: skip
def test_curves_are_in_the_unit_of_what_was_trained(
    tmp_path: Path,
    unit: str,
    model: dict[str, object],
    event: events.Event,
    history: str,
    valid: tuple[float, ...],
    train: tuple[float, ...],
) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    config = {"model": model, "event": events.to_dict(event)}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "history.csv").write_text(HEADER + history)
    (folder / "training.json").write_text(json.dumps(TRAINING))
    curve = target_curves.read(tmp_path, "a", unit)
    assert curve is not None
    assert [value for _, value in curve.valid] == pytest.approx(valid)
    assert [value for _, value in curve.train] == pytest.approx(train)


def test_a_panel_goes_from_the_mark_to_where_validation_was_late() -> None:
    valid = ((1, 500.0), (4, 90.0), (6, 85.0))
    curve = TrainingCurve(valid=valid, train=((1, 600.0), (6, 84.0)), hours=1.0)
    drawn = target_curves.draw([Panel("A & B", 80.0, curve)])
    assert re.findall(r">([^<]+)</text>", drawn) == ["A &amp; B", "91", "80", "0", "6 steps"]
    lines = re.findall(r'points="([^"]+)"', drawn)
    places = [[tuple(map(float, p.split(","))) for p in line.split()] for line in lines]
    top, left = target_curves.TOP, target_curves.LEFT
    bottom, right = top + target_curves.INNER_HEIGHT, left + target_curves.INNER_WIDTH
    assert places[1] == [(left, bottom), (right, bottom)]
    assert places[2][0][1] == top and places[2][0][1] < places[2][1][1] < places[2][2][1] < bottom
