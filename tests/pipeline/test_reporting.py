import csv
import json
import logging
import re
import sys
from pathlib import Path

import pytest
import yaml
from matplotlib.figure import Figure

from arcore import events
from pipeline import figures, paths, published, reporting
from pipeline.errors import UserError
from pipeline.published import load_published, match, published_for
from stages import report

MNIST = events.Binary((1, 28, 28))
DIGITS = events.Levels(17, (1, 8, 8))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARCORE_HOME", raising=False)
    return tmp_path


def manifest(dataset, published_name=None):
    folder = Path("data", "shards", dataset)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"published_name": published_name}))


def evaluated(
    dataset, name, value, event=MNIST, unit="nats", model="made", counterpart=None, **more
):
    """Write what the earlier stages leave behind."""
    folder = Path("models", name)
    folder.mkdir(parents=True)
    config = {"name": name, "model": {"name": model}, "event": events.to_dict(event)}
    config["evaluation"] = {"published": counterpart}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "training.json").write_text(json.dumps({"device": "cpu"}))
    (folder / "history.csv").write_text(
        "epoch,valid_nats,valid_bits_per_dim\n1,9.5,2.0\n2,,\n3,8.5,1.5\n"
    )
    folder = Path("evaluation", dataset, name)
    folder.mkdir(parents=True)
    metrics = {
        "experiment": name,
        "dataset": dataset,
        "model": model,
        "num_members": 1,
        "unit": unit,
        "nats": value,
        "nats_stderr": 0.21,
        "bits_per_dim": events.nats_to_bits_per_dim(value, event),
        "bits_per_dim_stderr": events.nats_to_bits_per_dim(0.21, event),
        "num_rows": 10000,
        "exact": True,
        "valid_nats": value + 0.1,
        "num_parameters": 1234567,
        "train_seconds": 754.0,
        "device": "cuda",
    }
    (folder / "metrics.json").write_text(json.dumps({**metrics, **more}))
    Figure(figsize=(1, 1)).savefig(folder / "samples.png")
    return folder / "metrics.json"


def mnist_report():
    manifest("binarized_mnist", "binarized_mnist")
    one = {"model": "MADE", "variant": "1hl, 1 mask"}
    many = {"model": "MADE", "variant": "2hl, 32 masks"}
    evaluated("binarized_mnist", "mnist-made", 88.9, counterpart=one)
    evaluated("binarized_mnist", "mnist-made-32", 86.9, counterpart=many, num_members=32)
    evaluated("binarized_mnist", "mnist-bound", 95.0, exact=False)
    return reporting.build_report("binarized_mnist")


def test_every_published_row_loads_and_null_values_are_skipped():
    rows = load_published()
    names = {"binarized_mnist", "dna", "mushrooms", "nips-0-12", "mnist_dynamic_binarized"}
    assert {row.dataset for row in rows} == names
    assert len(rows) == 92 - 3
    assert all(row.nll("nats", MNIST) == row.value for row in rows)


def row(**more):
    base = {"model": "M", "variant": "-", "dataset": "d", "metric": "nats", "split": "test"}
    return published.PublishedResult(
        **{**base, "value": 2.0, "source": "s", "verified": "code"} | more
    )


def test_signs_senses_and_units():
    assert row(relation="upper_bound").sign == "<=" and row(relation="approx").sign == "~"
    gain = row(value=-7.5, sense="ll")
    assert gain.nll("nats", MNIST) == 7.5
    assert row(sense="ll", relation="below").sign == ">"
    assert row(metric="mos").nll("nats", MNIST) is None
    bits = row(metric="bits_per_dim", value=1.0).nll("nats", DIGITS)
    assert row(value=bits).nll("bits_per_dim", DIGITS) == pytest.approx(1.0)
    assert "unconfirmed" in row(verified="memory").status
    with pytest.raises(ValueError, match="verified: expected one of"):
        row(verified="rumour")


def test_a_malformed_published_file_is_named(tmp_path):
    path = tmp_path / "rows.yaml"
    good = {"model": "M", "variant": "-", "dataset": "d", "metric": "nats", "split": "test"}
    good |= {"value": 1.0, "source": "s", "verified": "code"}
    for rows, message in (
        ([good, good], "row 2: d / M / - / nats / test is given twice"),
        ([{**good, "valeu": 1}], "row 1: expected fields among"),
        ([{**good, "value": "low"}], "row 1: value: expected a number"),
        ([{"model": "M"}], "row 1: .*missing"),
    ):
        load_published.cache_clear()
        path.write_text(yaml.safe_dump({"results": rows}))
        with pytest.raises(UserError, match=message):
            load_published(path)
    load_published.cache_clear()


def test_matching_names_the_nearest():
    rows = published_for("binarized_mnist")
    assert match(rows, {"model": "MADE", "variant": "2hl, 32 masks"}, "e").value == 86.64
    with pytest.raises(UserError, match="e: no published MADE '2hl, 32 mask'; .*: '2hl, 32 masks'"):
        match(rows, {"model": "MADE", "variant": "2hl, 32 mask"}, "e")
    with pytest.raises(UserError, match="known: MADE"):
        match(rows, {"model": "MAED", "variant": "-"}, "e")
    with pytest.raises(UserError, match="expected {model, variant} or null"):
        match(rows, {"variant": "-"}, "e")


def test_ours_beside_the_published_value(home):
    built = mnist_report()
    best, one, bound = built.rows
    assert (best.result.experiment, best.result.members) == ("mnist-made-32", "ensemble of 32")
    assert best.difference == pytest.approx(86.9 - 86.64)
    assert one.difference == pytest.approx(88.9 - 88.4)
    assert bound.published is None and bound.difference is None
    text = reporting.markdown(built)
    assert re.search(r"mnist-made-32 +\| made +\| [^|]+\| ensemble of 32 +\| 86.90 ± 0.21 ", text)
    assert "+0.26" in text and "1,234,567" in text and "12.6 min" in text and "<= 95.00" in text
    assert "cpu" in text and "cuda" not in text, "train time belongs to the training's device"
    assert "MADE (1hl, 1 mask): Germain et al. 2015, MNIST table [unconfirmed]" in text
    assert "<= 80.97" in text and "~ 84.13" in text
    assert "INVALID likelihood: logits averaged across orderings" in text


def test_context_is_sorted_and_what_is_not_comparable_comes_last(home):
    context = mnist_report().context
    labels = [row.label for row, _ in context]
    assert labels[0].startswith("PixelVAE")
    assert "MADE (1hl, 1 mask)" not in labels, "it has a counterpart"
    comparable = [row.comparable for row, _ in context]
    assert comparable == sorted(comparable, reverse=True) and not comparable[-1]
    values = [value for row, value in context if row.comparable]
    assert values == sorted(values)


def test_csv_gives_raw_numbers_in_both_units(home):
    built = mnist_report()
    rows = list(csv.DictReader(reporting.csv_text(built).splitlines()))
    ours = rows[0]
    assert float(ours["nats"]) == 86.9 and ours["unit"] == "nats" and ours["num_members"] == "32"
    for line in rows:
        bits = events.nats_to_bits_per_dim(float(line["nats"]), MNIST)
        assert float(line["bits_per_dim"]) == pytest.approx(bits)
    assert sum(line["kind"] == "published" for line in rows) == len(built.context)


def test_bits_per_dim_come_first_where_they_are_the_unit(home):
    manifest("digits")
    evaluated("digits", "digits-made", 100.0, DIGITS, "bits_per_dim")
    built = reporting.build_report("digits")
    header, cells = reporting.our_table(built)
    bits = events.nats_to_bits_per_dim(100.0, DIGITS)
    line = dict(zip(header, cells[0], strict=True))
    assert line["test (bits/dim)"].startswith(f"{bits:.4f} ± ")
    assert line["test (nats)"] == "100.00 ± 0.21"
    assert "No published results for digits." in reporting.markdown(built)
    assert "No published results for digits." in figures.html_page(built)


@pytest.mark.parametrize(
    ("model", "base", "expected"),
    [
        ({}, None, "defaults"),
        ({}, "pipeline/conf/base.yaml", "defaults"),
        ({"hidden": [64, 32], "ordering": "snake"}, None, "hidden=[64, 32] ordering=snake"),
        ({"num_masks": 2}, "searches/toy/best.yaml", "num_masks=2 (found by searches/toy)"),
    ],
)
def test_settings_are_what_differs_from_the_defaults(home, model, base, expected: str) -> None:
    manifest("digits")
    evaluated("digits", "digits-made", 100.0, DIGITS, "bits_per_dim")
    path = paths.model("digits-made") / "config.yaml"
    changed = yaml.safe_load(path.read_text())
    changed |= {"model": {"name": "made"} | model, "base": base}
    path.write_text(yaml.safe_dump(changed))
    (row,) = reporting.build_report("digits").rows
    assert row.result.settings == expected


def test_html_is_self_contained_and_escaped(home):
    manifest("binarized_mnist", "binarized_mnist")
    evaluated("binarized_mnist", "a<script>&b", 88.0)
    page = figures.html_page(reporting.build_report("binarized_mnist"))
    assert "<script" not in page and "a&lt;script&gt;&amp;b" in page
    assert not re.search(r"https?://|<link|@import|url\(", page)
    sources = re.findall(r'src="([^"]{0,30})', page)
    assert len(sources) == 3 and all(s.startswith("data:image/png;base64,") for s in sources)
    assert page == figures.html_page(reporting.build_report("binarized_mnist"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits_per_dim": 88.0}, "bits_per_dim: expected 0.161.* got 88"),
        ({"unit": "bits"}, "unit: expected one of"),
        ({"nats": None}, "nats: expected a number"),
        ({"num_members": 0}, "num_members: expected an integer >= 1"),
    ],
)
def test_malformed_metrics_name_the_file(home, change, message):
    manifest("binarized_mnist")
    evaluated("binarized_mnist", "m", 88.0, **change)
    with pytest.raises(UserError, match=f"binarized_mnist/m/metrics.json: {message}"):
        reporting.build_report("binarized_mnist")


def test_missing_and_broken_files_name_the_file(home):
    with pytest.raises(UserError, match="evaluation/dna: no evaluated experiment"):
        reporting.build_report("dna")
    path = evaluated("dna", "m", 88.0)
    with pytest.raises(UserError, match="shards/dna/manifest.json: missing"):
        reporting.build_report("dna")
    path.write_text('{"nats": 1')
    with pytest.raises(UserError, match="metrics.json: expected JSON"):
        reporting.read_results("dna")
    path.write_text("{}")
    with pytest.raises(UserError, match="metrics.json: missing bits_per_dim"):
        reporting.read_results("dna")


def test_the_stage_writes_all_files_without_mlflow_and_shows_them(
    home, monkeypatch, caplog, capsys
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    mnist_report()
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["report", "binarized_mnist"])
        with caplog.at_level(logging.WARNING):
            report.main()
    assert any("report not logged" in line for line in caplog.messages)
    assert sorted(p.name for p in Path("reports").iterdir()) == ["binarized_mnist"]
    files = sorted(p.name for p in Path("reports/binarized_mnist").iterdir())
    assert files == ["report.html", "table.csv", "table.md"]
    monkeypatch.setattr(sys, "argv", ["report", "--show"])
    report.main()
    shown = capsys.readouterr().out
    column = next(line.index(" model ") + 1 for line in shown.splitlines() if " model " in line)
    lines = [line for line in shown.splitlines() if line.startswith("  mnist-")]
    assert len(lines) == 3 and all(line[column:].startswith("made ") for line in lines)
    assert "source" not in shown and "more in" in shown
    with pytest.raises(UserError, match="run `python -m stages.report dna`"):
        reporting.show(["dna"])


def test_a_report_is_logged_once_for_each_content(home, monkeypatch, tmp_path_factory):
    from pipeline import tracking

    migrated = tmp_path_factory.getbasetemp() / "migrated.db"
    tracking.init_store(f"sqlite:///{migrated}")
    (home / "mlflow.db").write_bytes(migrated.read_bytes())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    manifest("dna", "dna")
    path = evaluated("dna", "dna-made", 82.0, events.Binary((180,)))
    report.write("dna")
    report.write("dna")
    store = tracking.client()
    where = store.get_experiment_by_name(report.EXPERIMENT).experiment_id
    (run,) = store.search_runs([where])
    names = {item.path for item in store.list_artifacts(run.info.run_id)}
    assert names == {"report.html", "table.csv", "table.json", "table.md"}
    table = json.loads(Path(store.download_artifacts(run.info.run_id, "table.json")).read_text())
    assert table["data"][0][table["columns"].index("nats")] == 82.0
    path.write_text(path.read_text().replace("754.0", "755.5"))
    report.write("dna")
    assert len(store.search_runs([where])) == 2
