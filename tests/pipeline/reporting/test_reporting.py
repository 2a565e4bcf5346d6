import csv
import json
import logging
import math
import re
import sys
from pathlib import Path

import pytest
import yaml
from matplotlib.figure import Figure

from arcore import events, units
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.evaluation import results
from pipeline.reporting import comparison, html, published, tables
from pipeline.reporting.published import load_published, match, published_for
from stages import report

MNIST = events.Binary((1, 28, 28))
DIGITS = events.Levels(17, (1, 8, 8))


def manifest(dataset, published_name=None):
    folder = Path("data", "shards", dataset)
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"published_name": published_name}))
    measured(dataset)


def measured(dataset, *codecs, event=MNIST, **more):
    """Write what stage codecs leaves behind, of (label, nats)."""
    entries = [
        {
            "label": label,
            "settings": "level=9",
            "num_rows": 10000,
            "bytes": 1,
            "nats": value,
            "nats_stderr": 0.4,
            "bits_per_dim": units.nats_to_bits_per_dim(value, event),
            "bits_per_dim_stderr": units.nats_to_bits_per_dim(0.4, event),
        }
        for label, value in codecs
    ]
    path = Path("codecs", f"{dataset}.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"codecs": entries, **more}))
    return path


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
        "bits_per_dim": units.nats_to_bits_per_dim(value, event),
        "bits_per_dim_stderr": units.nats_to_bits_per_dim(0.21, event),
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
    return comparison.build_report("binarized_mnist")


def test_a_bound_has_a_row_for_its_estimate(workdir):
    manifest("binarized_mnist", "binarized_mnist")
    bound = {"model": "PixelVAE", "variant": "gated, no upsampling, ELBO"}
    samples = {"model": "PixelVAE", "variant": "gated, no upsampling, 1000 importance samples"}
    estimate = {"nats_importance_weighted": 80.5, "nats_importance_weighted_stderr": 0.7}
    estimate |= {"importance_samples": 1000, "importance_rows": 500}
    given = {"exact": False, "num_rows": 10000, "num_split_rows": 10000}
    path = evaluated("binarized_mnist", "vae", 81.2, counterpart=bound, **given, **estimate)
    metrics = json.loads(path.read_text()) | {"published_importance": samples}
    path.write_text(json.dumps(metrics))
    evaluated("binarized_mnist", "exact", 85.0)
    report = comparison.build_report("binarized_mnist")
    names = ["vae (1,000 importance samples)", "vae", "exact"]
    assert [row.result.experiment for row in report.rows] == names
    assert report.rows[0].difference == pytest.approx(80.5 - 79.02)
    assert report.rows[1].difference == pytest.approx(81.2 - 79.66)
    text = tables.markdown(report)
    assert "~ 80.50 ± 0.70 (500 of 10,000 rows)" in text and "<= 81.20 ± 0.21 " in text
    assert "| ~ 79.02 " in text and "| <= 79.66 " in text and "~ an importance-weighted" in text
    rows = tables.csv_rows(report)[:3]
    assert [row["relation"] for row in rows] == ["approx", "upper_bound", "exact"]
    assert rows[0]["bits_per_dim"] == pytest.approx(80.5 / 784 / math.log(2))
    assert len(results.read_results("binarized_mnist")) == 2, "only what was trained registers"
    page = html.html_page(report)
    assert page.count('alt="vae"') == 1 and "~ 80.50" in page
    path.write_text(json.dumps({k: v for k, v in metrics.items() if "importance_w" not in k}))
    with pytest.raises(UserError, match="vae: evaluation.published_importance: expected an est"):
        comparison.build_report("binarized_mnist")


def test_a_member_of_an_ensemble_has_a_row_of_its_own_and_subsets_are_named(workdir):
    manifest("binarized_mnist", "binarized_mnist")
    many = {"model": "EoNADE", "variant": "2hl, 16 orderings"}
    one = {"model": "DeepNADE", "variant": "2hl, 1 orderings"}
    given = {"num_members": 16, "num_rows": 1000, "num_split_rows": 10000}
    members = {"member_nats": 89.5, "member_nats_stderr": 0.7, "published_member": one}
    evaluated("binarized_mnist", "deep", 86.5, counterpart=many, **given, **members)
    report = comparison.build_report("binarized_mnist")
    assert [row.result.experiment for row in report.rows] == ["deep", "deep (a member)"]
    assert [row.result.members for row in report.rows] == ["ensemble of 16", "one (mean of 16)"]
    assert [row.difference for row in report.rows] == pytest.approx([86.5 - 85.96, 89.5 - 89.17])
    text = tables.markdown(report)
    assert "86.50 ± 0.21 (1,000 of 10,000 rows)" in text
    assert "89.50 ± 0.70 (1,000 of 10,000 rows)" in text
    assert len(results.read_results("binarized_mnist")) == 1, "only what was trained registers"
    path = Path("evaluation/binarized_mnist/deep/metrics.json")
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in metrics.items() if k != "member_nats"}))
    with pytest.raises(UserError, match="deep: evaluation.published_member: expected an ensemble"):
        comparison.build_report("binarized_mnist")


def test_every_published_row_loads_and_null_values_are_skipped():
    rows = load_published()
    names = {"binarized_mnist", "dna", "mushrooms", "nips-0-12", "mnist_dynamic_binarized"}
    names |= {"red-wine", "cifar10", "imagenet32", "imagenet64", "moving_mnist", "robotic_pushing"}
    assert {row.dataset for row in rows} == names
    assert len(rows) == 98 - 3 + 64 + 36
    signs = {"nll": 1, "ll": -1}
    in_nats = [row for row in rows if row.metric == "nats"]
    assert all(row.nll("nats", MNIST) == signs[row.sense] * row.value for row in in_nats)
    assert {row.sense for row in rows if row.dataset == "red-wine"} == {"ll"}


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


def test_ours_beside_the_published_value(workdir):
    built = mnist_report()
    best, one, bound = built.rows
    assert (best.result.experiment, best.result.members) == ("mnist-made-32", "ensemble of 32")
    assert best.difference == pytest.approx(86.9 - 86.64)
    assert one.difference == pytest.approx(88.9 - 88.4)
    assert bound.published is None and bound.difference is None
    text = tables.markdown(built)
    assert re.search(r"mnist-made-32 +\| made +\| [^|]+\| ensemble of 32 +\| 86.90 ± 0.21 ", text)
    assert "+0.26" in text and "1,234,567" in text and "12.6 min" in text and "<= 95.00" in text
    assert "cpu" in text and "cuda" not in text, "train time belongs to the training's device"
    assert "MADE (1hl, 1 mask): Germain et al. 2015, MNIST table [unconfirmed]" in text
    assert "<= 80.97" in text and "~ 84.13" in text
    assert "INVALID likelihood: logits averaged across orderings" in text


def test_context_is_sorted_and_what_is_not_comparable_comes_last(workdir):
    context = mnist_report().context
    labels = [row.label for row, _ in context]
    assert labels[0].startswith("PixelVAE")
    assert "MADE (1hl, 1 mask)" not in labels, "it has a counterpart"
    comparable = [row.comparable for row, _ in context]
    assert comparable == sorted(comparable, reverse=True) and not comparable[-1]
    values = [value for row, value in context if row.comparable]
    assert values == sorted(values)


def test_csv_gives_raw_numbers_in_both_units(workdir):
    built = mnist_report()
    rows = list(csv.DictReader(tables.csv_text(built).splitlines()))
    ours = rows[0]
    assert float(ours["nats"]) == 86.9 and ours["unit"] == "nats" and ours["num_members"] == "32"
    for line in rows:
        bits = units.nats_to_bits_per_dim(float(line["nats"]), MNIST)
        assert float(line["bits_per_dim"]) == pytest.approx(bits)
    assert sum(line["kind"] == "published" for line in rows) == len(built.context)


def test_bits_per_dim_come_first_where_they_are_the_unit(workdir):
    manifest("digits")
    evaluated("digits", "digits-made", 100.0, DIGITS, "bits_per_dim")
    built = comparison.build_report("digits")
    header, cells = tables.our_table(built)
    bits = units.nats_to_bits_per_dim(100.0, DIGITS)
    line = dict(zip(header, cells[0], strict=True))
    assert line["test (bits/dim)"].startswith(f"{bits:.4f} ± ")
    assert line["test (nats)"] == "100.00 ± 0.21"
    assert "No published results for digits." in tables.markdown(built)
    assert "No published results for digits." in html.html_page(built)


def test_bits_of_dequantised_levels_are_bounds_while_nats_of_the_density_are_not(workdir):
    event = events.Real((1, 8, 8), bin_width=1 / 17)
    manifest("noisy")
    evaluated("noisy", "n", -80.0, event, "bits_per_dim", "rnade", bits_per_dim_stderr=0.01)
    built = comparison.build_report("noisy")
    header, cells = tables.our_table(built)
    line = dict(zip(header, cells[0], strict=True))
    bits = math.log2(17) - 80 / 64 / math.log(2)
    assert line["test (bits/dim)"] == f"<= {bits:.3f} ± 0.010"
    assert line["test (nats)"] == "-80.00 ± 0.21"
    assert tables.csv_rows(built)[0]["relation"] == "upper_bound"
    assert "<= is an upper bound" in tables.introduction(built)
    assert "n (ours, one, &lt;=)" not in html.html_page(built), "labels are in the picture"
    ticks = html.comparison(built).axes[0].get_yticklabels()
    assert [tick.get_text() for tick in ticks] == ["n (ours, one, <=)"]


def test_folds_are_one_row_with_a_config_of_their_own(workdir):
    event = events.Real((11,))
    manifest("red_wine", "red-wine")
    evaluated("red_wine", "wine-rnade", 9.5, event, model="rnade")
    folds = evaluated(
        *("red_wine", "wine-folds", 9.25, event),
        model="rnade", counterpart={"model": "RNADE", "variant": "MoG"}, num_folds=10,
    )  # fmt: skip
    Path("models/wine-folds/config.yaml").rename(folds.with_name("config.yaml"))
    for path in Path("models/wine-folds").iterdir():
        path.unlink()
    built = comparison.build_report("red_wine")
    assert [row.result.experiment for row in built.rows] == ["wine-folds", "wine-rnade"]
    assert built.rows[0].result.members == "one for each of 10 folds"
    assert built.rows[0].difference == pytest.approx(9.25 - 9.36)
    text = tables.markdown(built)
    assert "standard error over folds" in text and "Nats are of a density" in text
    assert "-0.11" in text and "| EoRNADE (best)" in text and "| 8.76 " in text
    assert "wine-folds" in html.html_page(built)


@pytest.mark.parametrize(
    ("model", "base", "expected"),
    [
        ({}, None, "defaults"),
        ({}, "pipeline/conf/base.yaml", "defaults"),
        ({"hidden": [64, 32], "ordering": "snake"}, None, "hidden=[64, 32] ordering=snake"),
        ({"num_masks": 2}, "searches/toy/best.yaml", "num_masks=2 (found by searches/toy)"),
    ],
)
def test_settings_are_what_differs_from_the_defaults(workdir, model, base, expected: str) -> None:
    manifest("digits")
    evaluated("digits", "digits-made", 100.0, DIGITS, "bits_per_dim")
    path = paths.model("digits-made") / "config.yaml"
    changed = yaml.safe_load(path.read_text())
    changed |= {"model": {"name": "made"} | model, "base": base}
    path.write_text(yaml.safe_dump(changed))
    (row,) = comparison.build_report("digits").rows
    assert row.result.settings == expected


def test_codecs_are_rows_among_ours_by_value(workdir):
    manifest("binarized_mnist", "binarized_mnist")
    evaluated("binarized_mnist", "mnist-made", 88.9)
    evaluated("binarized_mnist", "mnist-nade", 120.0)
    measured("binarized_mnist", ("PNG (measured here)", 743.8), ("zstd (measured here)", 100.5))
    built = comparison.build_report("binarized_mnist")
    header, cells = tables.our_table(built)
    assert [line[0] for line in cells] == [
        "mnist-made", "zstd (measured here)", "mnist-nade", "PNG (measured here)",
    ]  # fmt: skip
    line = dict(zip(header, cells[1], strict=True))
    assert line["model"] == "codec" and line["settings"] == "level=9"
    assert line["test (nats)"] == "100.50 ± 0.40" and line["test (bits/dim)"].startswith("0.1849 ±")
    assert {line[name] for name in header[6:]} == {"-"}
    rows = list(csv.DictReader(tables.csv_text(built).splitlines()))
    kinds = [row["kind"] for row in rows]
    assert kinds[:5] == ["ours", "codec", "ours", "codec", "published"]
    assert float(rows[1]["nats"]) == 100.5 and rows[1]["model"] == "zstd (measured here)"
    assert "all bytes counted" in tables.markdown(built)
    page = html.html_page(built)
    assert "all bytes counted" in page and "<td>PNG (measured here)</td>" in page
    (axes,) = html.comparison(built).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert "zstd (measured here)" in labels
    assert "PNG (measured here)" not in labels, "its headers would flatten the rest"


def test_what_is_no_image_has_no_codec_rows(workdir):
    manifest("dna", "dna")
    evaluated("dna", "dna-made", 82.0, events.Binary((180,)))
    built = comparison.build_report("dna")
    assert built.codecs == () and "bytes" not in tables.markdown(built)


def test_measurements_of_other_data_or_malformed_ones_name_the_file(workdir):
    manifest("digits")
    evaluated("digits", "m", 100.0, DIGITS, "bits_per_dim")
    path = measured("digits", ("PNG", 500.0), event=DIGITS, dataset_sha256="0" * 64)
    again = "run `python -m stages.codecs digits`"
    with pytest.raises(
        UserError, match=f"codecs/digits.json: expected .*None.*, got 0{{12}}; {again}"
    ):
        comparison.build_report("digits")
    measured("digits", ("PNG", 500.0))
    with pytest.raises(UserError, match="codecs/digits.json: bits_per_dim: expected 11.27"):
        comparison.build_report("digits")
    path.write_text('{"codecs": [{"label": "PNG"}]}')
    with pytest.raises(UserError, match="codecs/digits.json: missing '"):
        comparison.build_report("digits")
    path.write_text('{"codecs": [7]}')
    with pytest.raises(UserError, match="codecs/digits.json: "):
        comparison.build_report("digits")
    path.unlink()
    with pytest.raises(UserError, match=f"codecs/digits.json: missing; {again}"):
        comparison.build_report("digits")


def test_html_is_self_contained_and_escaped(workdir):
    manifest("binarized_mnist", "binarized_mnist")
    evaluated("binarized_mnist", "a<script>&b", 88.0)
    page = html.html_page(comparison.build_report("binarized_mnist"))
    assert "<script" not in page and "a&lt;script&gt;&amp;b" in page
    assert not re.search(r"https?://|<link|@import|url\(", page)
    sources = re.findall(r'src="([^"]{0,30})', page)
    assert len(sources) == 3 and all(s.startswith("data:image/png;base64,") for s in sources)
    assert page == html.html_page(comparison.build_report("binarized_mnist"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits_per_dim": 88.0}, "bits_per_dim: expected 0.161.* got 88"),
        ({"unit": "bits"}, "unit: expected one of"),
        ({"nats": None}, "nats: expected a number"),
        ({"valid_nats": math.nan}, "valid_nats: expected a number"),
        ({"num_members": 0}, "num_members: expected an integer >= 1"),
    ],
)
def test_malformed_metrics_name_the_file(workdir, change, message):
    manifest("binarized_mnist")
    evaluated("binarized_mnist", "m", 88.0, **change)
    with pytest.raises(UserError, match=f"binarized_mnist/m/metrics.json: {message}"):
        comparison.build_report("binarized_mnist")


def test_what_was_trained_on_other_data_is_left_out(workdir, caplog):
    manifest("dna")
    path = Path("data/shards/dna/manifest.json")
    path.write_text(json.dumps({"published_name": None, "sha256": "a" * 64}))
    for name, data in (("fresh", "a" * 64), ("stale", "b" * 64)):
        evaluated("dna", name, 88.0)
        config = Path("models", name, "config.yaml")
        config.write_text(config.read_text() + f"dataset_sha256: {data}\n")
    assert [result.experiment for result in results.read_results("dna")] == ["fresh"]
    assert "warning: evaluation/dna/stale: of other data (bbbbbbbbbbbb)" in caplog.text


def test_missing_and_broken_files_name_the_file(workdir):
    with pytest.raises(UserError, match="evaluation/dna: no evaluated experiment"):
        comparison.build_report("dna")
    path = evaluated("dna", "m", 88.0)
    with pytest.raises(UserError, match="shards/dna/manifest.json: missing"):
        comparison.build_report("dna")
    path.write_text('{"nats": 1')
    with pytest.raises(UserError, match="metrics.json: expected JSON"):
        results.read_results("dna")
    path.write_text("{}")
    with pytest.raises(UserError, match="metrics.json: missing bits_per_dim"):
        results.read_results("dna")


def test_the_stage_writes_all_files_without_mlflow_and_shows_them(
    workdir, monkeypatch, caplog, capsys
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
        tables.show(["dna"])


def test_a_report_is_logged_once_for_each_content(workdir, monkeypatch, migrated):
    from pipeline.tracking import mlflow_store

    (workdir / "mlflow.db").write_bytes(migrated.read_bytes())
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    manifest("dna", "dna")
    path = evaluated("dna", "dna-made", 82.0, events.Binary((180,)))
    report.write("dna")
    report.write("dna")
    store = mlflow_store.client()
    where = store.get_experiment_by_name(report.EXPERIMENT).experiment_id
    (run,) = store.search_runs([where])
    names = {item.path for item in store.list_artifacts(run.info.run_id)}
    assert names == {"report.html", "table.csv", "table.json", "table.md"}
    table = json.loads(Path(store.download_artifacts(run.info.run_id, "table.json")).read_text())
    assert table["data"][0][table["columns"].index("nats")] == 82.0
    path.write_text(path.read_text().replace("754.0", "755.5"))
    report.write("dna")
    assert len(store.search_runs([where])) == 2
