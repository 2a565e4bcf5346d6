"""The table of numbers, and the texts made of it."""

import dataclasses
import json
import math
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from arcore import events, units
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.evaluation.reading import read_results
from pipeline.reporting import (
    comparison,
    figures,
    numbers,
    report_files,
    tables,
    wording,
)
from tests.support import reports
from tests.support.measured_files import DIGITS, MNIST


def test_a_bound_has_a_row_for_its_estimate(files):
    files.manifest("binarized_mnist", "binarized_mnist")
    bound = {"model": "PixelVAE", "variant": "gated, no upsampling, ELBO"}
    samples = {"model": "PixelVAE", "variant": "gated, no upsampling, 1000 importance samples"}
    estimate = {"nats_importance_weighted": 80.5, "nats_importance_weighted_stderr": 0.7}
    estimate |= {"importance_samples": 1000, "importance_rows": 500}
    given = {"exact": False, "num_rows": 10000, "num_split_rows": 10000}
    path = files.evaluated("binarized_mnist", "vae", 81.2, counterpart=bound, **given, **estimate)
    metrics = json.loads(path.read_text()) | {"published_importance": samples}
    path.write_text(json.dumps(metrics))
    files.evaluated("binarized_mnist", "exact", 85.0)
    report = comparison.build_report("binarized_mnist")
    names = ["vae (1,000 importance samples)", "vae", "exact"]
    assert [row.result.experiment for row in report.rows] == names
    assert report.rows[0].difference == pytest.approx(80.5 - 79.02)
    assert report.rows[1].difference == pytest.approx(81.2 - 79.66)
    text = reports.markdown(report)
    assert "~ 80.50 ± 0.70 (500 of 10,000 rows)" in text and "<= 81.20 ± 0.21 " in text
    assert "| ~ 79.02 " in text and "| <= 79.66 " in text and "~ is an importance-weighted" in text
    tests = numbers.numbers(report).query("quantity == 'test' and kind == 'ours'")
    assert list(tests.query("unit == 'nats'")["relation"]) == ["approx", "upper_bound", "exact"]
    bits = tests.query("unit == 'bits_per_dim'")["value"].iloc[0]
    assert bits == pytest.approx(80.5 / 784 / math.log(2))
    marks = tests.query("unit == 'nats'")["marks"]
    assert list(marks) == ["estimate; 500 of 10,000 rows", "bound", ""]
    assert len(read_results("binarized_mnist")) == 2, "only what was trained registers"
    page = reports.page(report)
    assert page.count('alt="samples of vae next to') == 1 and "~ 80.50" in page
    of_estimate = ("nats_importance", "importance_")
    without = {k: v for k, v in metrics.items() if not k.startswith(of_estimate)}
    path.write_text(json.dumps(without))
    with pytest.raises(UserError, match="vae: evaluation.published_importance: expected an est"):
        comparison.build_report("binarized_mnist")


def test_a_member_of_an_ensemble_has_a_row_of_its_own_and_subsets_are_named(files):
    files.manifest("binarized_mnist", "binarized_mnist")
    many = {"model": "EoNADE", "variant": "2hl, 16 orderings"}
    one = {"model": "DeepNADE", "variant": "2hl, 1 orderings"}
    given = {"num_members": 16, "num_rows": 1000, "num_split_rows": 10000}
    members = {"member_nats": 89.5, "member_nats_stderr": 0.7, "published_member": one}
    files.evaluated("binarized_mnist", "deep", 86.5, counterpart=many, **given, **members)
    report = comparison.build_report("binarized_mnist")
    assert [row.result.experiment for row in report.rows] == ["deep", "deep (a member)"]
    assert [wording.members(row.result, row.num_averaged) for row in report.rows] == [
        "ensemble of 16",
        "one (mean of 16)",
    ]
    assert [row.difference for row in report.rows] == pytest.approx([86.5 - 85.96, 89.5 - 89.17])
    text = reports.markdown(report)
    assert "86.50 ± 0.21 (1,000 of 10,000 rows)" in text
    assert "89.50 ± 0.70 (1,000 of 10,000 rows)" in text
    assert len(read_results("binarized_mnist")) == 1, "only what was trained registers"
    path = Path("evaluation/binarized_mnist/deep/metrics.json")
    metrics = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in metrics.items() if "member_nats" not in k}))
    with pytest.raises(UserError, match="deep: evaluation.published_member: expected an ensemble"):
        comparison.build_report("binarized_mnist")


def test_ours_beside_the_published_value(files):
    built = reports.mnist(files)
    best, one, bound = built.rows
    assert (best.result.experiment, wording.members(best.result)) == (
        "mnist-made-32", "ensemble of 32",
    )  # fmt: skip
    assert best.difference == pytest.approx(86.9 - 86.64)
    assert one.difference == pytest.approx(88.9 - 88.4)
    assert bound.published is None and bound.difference is None
    text = reports.markdown(built)
    assert re.search(r"mnist-made-32 +\| made +\| [^|]+\| ensemble of 32 +\| 86.90 ± 0.21 ", text)
    assert "+0.26" in text and "1,234,567" in text and "12.6 min" in text and "<= 95.00" in text
    assert "cpu" in text and "cuda" not in text, "train time belongs to the training's device"
    assert "MADE (1hl, 1 mask): Germain et al. 2015, MNIST table [unconfirmed; fixed bits]" in text
    assert "<= 80.97" in text and "~ 84.13" in text
    assert "INVALID likelihood: logits averaged across orderings" in text


def test_context_is_sorted_and_what_is_not_comparable_comes_last(files):
    context = reports.mnist(files).context
    labels = [row.label for row, _ in context]
    assert labels[0].startswith("PixelVAE")
    assert "MADE (1hl, 1 mask)" not in labels, "it has a counterpart"
    comparable = [row.comparable for row, _ in context]
    assert comparable == sorted(comparable, reverse=True) and not comparable[-1]
    values = [value for row, value in context if row.comparable]
    assert values == sorted(values)


def test_csv_gives_raw_numbers_in_both_units(files):
    built = reports.mnist(files)
    frame = numbers.numbers(built)
    path = Path("numbers.csv")
    path.write_text(numbers.csv_text(frame))
    pd.testing.assert_frame_equal(numbers.read_csv(path), frame, check_exact=True)
    first = frame.iloc[0]
    assert (first["value"], first["unit"], first["members"]) == (86.9, "nats", "ensemble of 32")
    ours = frame[(frame["kind"] == "ours") & (frame["quantity"] == "test")]
    nats, bits = (
        list(ours.loc[ours["unit"] == unit, "value"]) for unit in ("nats", "bits_per_dim")
    )
    assert bits == pytest.approx([units.nats_to_bits_per_dim(value, MNIST) for value in nats])
    assert sum(frame["kind"] == "published") == len(built.context)


def test_bits_per_dim_come_first_where_they_are_the_unit(files):
    files.manifest("digits")
    files.evaluated("digits", "digits-made", 100.0, DIGITS, "bits_per_dim")
    built = comparison.build_report("digits")
    (line,) = reports.texts(built)
    bits = units.nats_to_bits_per_dim(100.0, DIGITS)
    assert line["test (bits/dim)"].startswith(f"{bits:.4f} ± ")
    assert line["test (nats)"] == "100.00 ± 0.21"
    assert "Published results" not in reports.markdown(built) + reports.page(built)


def test_bits_of_dequantised_levels_are_bounds_while_nats_of_the_density_are_not(files):
    event = events.Real((1, 8, 8), bin_width=1 / 17)
    files.manifest("noisy")
    files.evaluated("noisy", "n", -80.0, event, "bits_per_dim", "rnade", bits_per_dim_stderr=0.01)
    built = comparison.build_report("noisy")
    (line,) = reports.texts(built)
    bits = math.log2(17) - 80 / 64 / math.log(2)
    assert line["test (bits/dim)"] == f"<= {bits:.3f} ± 0.010"
    assert line["test (nats)"] == "-80.00 ± 0.21"
    assert numbers.numbers(built)["relation"][0] == "upper_bound"
    assert "<= is an upper bound" in reports.markdown(built)
    assert figures.comparison(figures.dots_of(built))["rows"] == ["n (<=)"]


def test_folds_are_one_row_with_a_config_of_their_own(files):
    event = events.Real((11,))
    files.manifest("red_wine", "red-wine")
    files.evaluated("red_wine", "wine-rnade", 9.5, event, model="rnade")
    folds = files.evaluated(
        *("red_wine", "wine-folds", 9.25, event),
        model="rnade", counterpart={"model": "RNADE", "variant": "MoG"}, num_folds=10,
    )  # fmt: skip
    Path("models/wine-folds/config.yaml").rename(folds.with_name("config.yaml"))
    for path in Path("models/wine-folds").iterdir():
        path.unlink()
    built = comparison.build_report("red_wine")
    assert [row.result.experiment for row in built.rows] == ["wine-folds", "wine-rnade"]
    assert wording.members(built.rows[0].result) == "one for each of 10 folds"
    assert built.rows[0].difference == pytest.approx(9.25 - 9.36)
    text = reports.markdown(built)
    assert "standard error over folds" in text and "Nats are of a density" in text
    assert "-0.11" in text and "| EoRNADE (best)" in text and "| 8.76 " in text
    assert "wine-folds" in reports.page(built)


@pytest.mark.parametrize(
    ("model", "base", "expected"),
    [
        ({}, None, "defaults"),
        ({}, "pipeline/conf/base.yaml", "defaults"),
        ({"hidden": [64, 32], "ordering": "snake"}, None, "hidden=[64, 32] ordering=snake"),
        ({"num_masks": 2}, "searches/toy/best.yaml", "num_masks=2 (found by searches/toy)"),
    ],
)
def test_settings_are_what_differs_from_the_defaults(files, model, base, expected: str) -> None:
    files.manifest("digits")
    files.evaluated("digits", "digits-made", 100.0, DIGITS, "bits_per_dim")
    path = paths.model("digits-made") / "config.yaml"
    changed = yaml.safe_load(path.read_text())
    changed |= {"model": {"name": "made"} | model, "base": base}
    path.write_text(yaml.safe_dump(changed))
    (row,) = comparison.build_report("digits").rows
    assert wording.settings(row.evaluated) == expected


def test_codecs_are_rows_among_ours_by_value(files):
    files.manifest("binarized_mnist", "binarized_mnist")
    files.evaluated("binarized_mnist", "mnist-made", 88.9)
    files.evaluated("binarized_mnist", "mnist-nade", 120.0)
    files.codecs("binarized_mnist", ("PNG (measured here)", 743.8), ("zstd (measured here)", 100.5))
    built = comparison.build_report("binarized_mnist")
    lines = reports.texts(built)
    assert [line["experiment"] for line in lines] == [
        "mnist-made", "zstd (measured here)", "mnist-nade", "PNG (measured here)",
    ]  # fmt: skip
    line = lines[1]
    assert line["model"] == "codec" and line["settings"] == "level=9"
    assert line["test (nats)"] == "100.50 ± 0.40" and line["test (bits/dim)"].startswith("0.1849 ±")
    assert {line[name] for name in list(line)[6:]} == {"-"}
    kinds = numbers.numbers(built).drop_duplicates("experiment")["kind"]
    assert list(kinds[:5]) == ["ours", "codec", "ours", "codec", "published"]
    assert "all bytes count" in reports.markdown(built)
    page = reports.page(built)
    assert "all bytes count" in page and ">PNG<small>measured here</small></th>" in page
    assert "Codecs above twice our best value are not drawn" in page
    assert "<dt>best baseline</dt><dd><strong>100.50 ± 0.40 nats</strong> zstd" in page
    labels = figures.comparison(figures.dots_of(built))["rows"]
    assert "zstd (measured here)" in labels
    assert "PNG (measured here)" not in labels, "its headers would flatten the rest"
    kinds = zip(built.codecs, ("entropy", "baseline"), strict=True)
    codecs = tuple(dataclasses.replace(codec, kind=kind) for codec, kind in kinds)
    simple = dataclasses.replace(built, codecs=codecs)
    page = reports.page(simple)
    assert "<dt>best baseline</dt><dd><strong>743.80 ± 0.40 nats</strong> PNG" in page
    assert "Baselines are simple models" in page and "all bytes count" not in page
    assert "PNG (measured here)" in figures.comparison(figures.dots_of(simple))["rows"]


def test_measurements_of_other_data_or_malformed_ones_name_the_file(files):
    files.manifest("digits", event=DIGITS)
    files.evaluated("digits", "m", 100.0, DIGITS, "bits_per_dim")
    path = files.codecs("digits", ("PNG", 500.0), event=DIGITS, sha256="0" * 64)
    again = "run `python -m stages.codecs digits`"
    stale = "codecs/digits: expected an output of data/shards/digits as it is"
    with pytest.raises(UserError, match=f"{stale} .*{files.sha256('digits')[:12]}.*; {again}"):
        comparison.build_report("digits")
    files.codecs("digits", ("PNG", 500.0), event=DIGITS)
    written = json.loads(path.read_text())
    for codecs, message in (
        ([{"label": "PNG"}], r"missing \w+"),
        ([7], "0: expected a mapping, got 7"),
        ([{**written["codecs"][0], "nats": "low"}], "nats: expected a number, got 'low'"),
        ([{**written["codecs"][0], "nats": math.inf}], "PNG: nats: expected a finite number"),
    ):
        path.write_text(json.dumps(written | {"codecs": codecs}))
        with pytest.raises(UserError, match=f"codecs/digits/codecs.json: {message}"):
            comparison.build_report("digits")
    path.unlink()
    with pytest.raises(UserError, match=f"codecs/digits/codecs.json: missing; {again}"):
        comparison.build_report("digits")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "bits"}, "unit: expected one of"),
        ({"nats": None}, "nats: expected a number, got None"),
        ({"exact": "yes"}, "exact: expected true or false, got 'yes'"),
        ({"num_rows": 2.5}, "num_rows: expected an integer, got 2.5"),
        ({"published": ["MADE"]}, "published: expected a mapping"),
        ({"context_frames": 3}, "context_frames: .*expected 0 <= frames given < 1, got 3"),
        ({"member_nats": 1.0}, "missing member_nats_stderr"),
        ({"valid_nats": math.nan}, "valid_nats: expected a number"),
        ({"num_members": 0}, "num_members: expected an integer >= 1"),
        ({"bits_per_dim": 0.2}, "bits_per_dim: expected 0.161935, of 88 nats, got 0.2"),
    ],
)
def test_malformed_metrics_name_the_file(files, change, message):
    files.manifest("binarized_mnist")
    files.evaluated("binarized_mnist", "m", 88.0, **change)
    with pytest.raises(UserError, match=f"binarized_mnist/m/metrics.json: {message}"):
        comparison.build_report("binarized_mnist")


def test_what_was_trained_on_other_data_is_left_out(files, caplog):
    files.manifest("dna")
    for name, data in (("fresh", files.sha256("dna")), ("stale", "b" * 64)):
        files.evaluated("dna", name, 88.0)
        config = Path("models", name, "config.yaml")
        config.write_text(config.read_text() + f"dataset_sha256: {data}\n")
    assert [read.name for read in read_results("dna")] == ["fresh"]
    assert "warning: evaluation/dna/stale: of other data (bbbbbbbbbbbb)" in caplog.text


def test_missing_and_broken_files_name_the_file(files):
    with pytest.raises(UserError, match="evaluation/dna: no evaluated experiment"):
        comparison.build_report("dna")
    path = files.evaluated("dna", "m", 88.0)
    with pytest.raises(UserError, match="shards/dna/manifest.json: file not found"):
        comparison.build_report("dna")
    path.write_text('{"nats": 1')
    with pytest.raises(UserError, match="metrics.json: expected JSON"):
        read_results("dna")
    path.write_text("{}")
    with pytest.raises(UserError, match="metrics.json: missing "):
        read_results("dna")


def test_conditional_rows_are_marked_and_ranked_by_value(files):
    files.manifest("toy")
    files.evaluated("toy", "toy-made", 88.0)
    plain = comparison.build_report("toy")
    assert tables.CONDITION not in reports.texts(plain)[0]
    assert "onditional" not in reports.markdown(plain) + reports.page(plain)
    reports.conditional(files, "toy", "toy-classes", 80.0)
    files.codecs("toy", ("zstd", 99.0))
    report = comparison.build_report("toy")
    lines = [(line["experiment"], line[tables.CONDITION]) for line in reports.texts(report)]
    assert lines == [("toy-classes", "class"), ("toy-made", "-"), ("zstd", "-")]
    assert "values do not compare" in reports.markdown(report)
    assert report.best.result.experiment == "toy-made"
    frame = numbers.numbers(report)
    assert set(frame.query("experiment == 'toy-classes'")["marks"]) == {"given class"}
    chart = figures.comparison(figures.dots_of(report))
    assert [trace["text"] for trace in chart["data"]] == [
        ["made"],
        ["classes (given class)"],
        ["zstd"],
    ]
    files.manifest("yours")
    reports.conditional(files, "yours", "yours-classes", 80.0)
    files.codecs("yours", ("PNG", 99.0))
    page = reports.page(comparison.build_report("yours"))
    best = "<dt>best model</dt><dd><strong>80.00 ± 0.21 nats</strong>"
    assert best in page and "<small>conditioned on class</small>" in page
    assert "best conditional model" not in page
    for dataset in ("toy", "yours"):
        report_files.write(dataset)
    index = Path("reports/index.html").read_text()
    assert "toy-classes" not in index and "88.00 ± 0.21 nats" in index
    assert "80.00 ± 0.21 nats" in index


@pytest.mark.parametrize(
    ("nats", "seconds", "said"),
    [
        (82.0 - 1e-9, 7.0, ("(+0.00 %)", "1.4 rows/s")),
        (81.0, 200.0, ("(+1.23 %)", "0.050 rows/s")),
        (83.0, 0.1, ("(-1.20 %)", "100 rows/s")),
    ],
)
def test_excess_and_speed_of_coding_keep_what_says_something(files, nats, seconds, said):
    files.manifest("toy")
    rows = 10
    bits = 82.0 / math.log(2) * rows
    more = {"num_rows": rows, "coded_bytes": round(bits / 8), "coded_seconds": seconds}
    nats *= round(bits / 8) * 8 / bits
    files.evaluated("toy", "toy-made", nats, **more)
    (texts,) = reports.texts(comparison.build_report("toy"))
    assert (texts["coded"].partition(" ")[2], texts["coding"]) == said
