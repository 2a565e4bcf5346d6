"""What a report leaves: pages, the index, the listing, and a run of MLflow."""

import csv
import json
import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from arcore import events
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError
from pipeline.evaluation import image_figures
from pipeline.evaluation.reading import ModelConfig
from pipeline.reporting import (
    comparison,
    figures,
    gallery,
    numbers,
    published,
    report_files,
    templates,
    wording,
)
from stages import report as stage
from tests.support import reports
from tests.support.measured_files import DIGITS, TRAINING


def test_html_is_self_contained_and_escaped(files):
    files.manifest("binarized_mnist", "binarized_mnist")
    name = "a<script>&b"
    files.evaluated("binarized_mnist", name, 88.0)
    report = comparison.build_report("binarized_mnist")
    page = reports.page(report)
    assert "a<script>" not in page and "a&lt;script&gt;&amp;b" in page
    assert not re.search(r"<link|@import|url\(", page)
    sources = re.findall(r'src(?:set)?="([^"]{0,30})', page)
    kinds = [source.split(";")[0] for source in sources]
    assert kinds == ["data:image/png", "plotly.min.js"]
    addresses = re.findall(r'href="([^"]*)"', page)
    outside = [address for address in addresses if "//" in address]
    sources = set(published.load_addresses().values())
    assert sources & set(outside), "of the published values"
    ours = [address for address in outside if address not in sources]
    assert all(address.startswith("http://127.0.0.1:5000/#/") for address in ours)
    for address in addresses:
        if address.startswith("#"):
            assert f'id="{address[1:]}"' in page
    assert page == reports.page(comparison.build_report("binarized_mnist"))
    text = reports.markdown(report)
    assert "<script" not in text and "a&lt;script>&b" in text and "<= 80.97" in text


def test_a_page_is_for_readers_and_its_words_are_true(files):
    page = reports.page(reports.mnist(files))
    assert '<html lang="en">' in page and page.count("<h1>") == 1 and "<main>" in page
    assert all('alt="' in image for image in re.findall(r"<img [^>]*", page))
    assert page.count("<caption>") == page.count("<table>") == page.count('tabindex="0"')
    assert "<th>" not in page and "prefers-color-scheme: dark" in page
    first, _, rest = page.partition("<section ")
    assert "9 training, 9 validation and 9 test rows, each of 1 x 28 x 28 bits." in first
    assert "<dt>best model</dt><dd><strong>86.90 ± 0.21 nats</strong>" in first
    assert "<dt>best published</dt><dd><strong>~ 79.02 nats</strong>" in first
    assert rest.index("<img ") < rest.index("<table>") < rest.index('class="chart"')
    assert "Compared with published values" in page and "<details>" in page
    files.manifest("toy")
    for name in ("toy-a", "toy-b"):
        files.evaluated("toy", name, 88.0)
    page = reports.page(comparison.build_report("toy"))
    assert "Compared with published" not in page and "published (grey" not in page
    assert '<th scope="col">published</th>' not in page and "ours minus published" not in page


def test_every_row_says_where_it_comes_from(files):
    files.manifest("toy")
    files.evaluated("toy", "toy-made", 88.0)
    record = TRAINING | {
        "experiment": "toy-made",
        "commit": "abc123",
        "run_id": "f00d",
        "num_workers": 2,
        "device": "cpu (X, 3 threads)",
    }
    Path("models/toy-made/training.json").write_text(json.dumps(record))
    Path("models/toy-made/model.safetensors").write_bytes(b"")
    report = comparison.build_report("toy")
    page = reports.page(report)
    for said in (
        "<code>abc123</code>", "dvc repro evaluate@toy-made", files.sha256("toy"),
        'href="../../models/toy-made"', 'href="../../evaluation/toy/toy-made"',
        "/#/runs/f00d",
    ):  # fmt: skip
        assert said in page
    (curve,) = figures.curves_of(report)
    assert curve.label == "made" and list(curve.seconds) == [6.0, 18.0], "2 workers of 3 threads"
    assert numbers.numbers(report)["commit"][0] == "abc123"


def test_curves_show_where_they_end():
    seconds = np.arange(1.0, 1201)
    curves = [
        figures.Curve(f"m{index}", seconds, 80 + index + 500 / seconds) for index in range(16)
    ]
    curves.append(figures.Curve("far", seconds[:3], np.array([900.0, 800.0, 700.0])))
    low, high = figures.limits(curves)
    assert 70 < low < 80 and 96 < high < 200
    drawn = figures.learning_curves(curves, "nats")
    names = [f"{c.label} {c.values[-1]:.4g}" for c in curves[:-1]] + ["far 700 ↑"]
    assert [trace["name"] for trace in drawn["data"]] == names
    assert drawn["data"][3]["y"][-1] == pytest.approx(83.42, abs=0.01)
    layout = drawn["layout"]
    assert layout["yaxis"]["range"] == [low, high] and layout["xaxis"]["type"] == "log"


@pytest.mark.parametrize(
    ("unit", "model", "event", "row", "value"),
    [  # bits of dequantised levels: the bins shift each value, and scale none
        ("bits_per_dim", {"name": "rnade"}, events.Real((2,), bin_width=0.5), {}, 2.0),
        (  # 19 frames are learned from, whichever are scored
            "nats_per_frame", {"name": "video_pixel_baseline", "context_frames": 1},
            events.Binary((20, 1, 8, 8)), {"valid_nats": "950"}, 50.0,
        ),
        (
            "bits_per_dim", {"name": "wavenet"}, events.Levels(4, (None,)),
            {"valid_bits_per_dim": "1.0"}, 1.0,
        ),
    ],
    ids=["bins", "frames", "open length"],
)  # fmt: skip
def test_curves_are_in_the_unit_of_what_was_trained(unit, model, event, row, value):
    config = ModelConfig({}, event, model, None, None)
    rows = [{"valid_nats": str(2 * math.log(2))} | row]
    assert figures.in_unit(rows, unit, config) == pytest.approx([value])


def test_the_index_leads_to_every_report(files):
    assert report_files.write_index() is None
    for dataset in ("toy", "other"):
        files.manifest(dataset)
        files.evaluated(dataset, f"{dataset}-made", 88.0)
        report_files.write(dataset)
    page = Path("reports/index.html").read_text()
    assert (
        "rows</span>" not in page
        and 'href="toy/report.html"' in page
        and 'href="other/report.html"' in page
    )
    assert "88.00 ± 0.21 nats" in page
    table = Path("reports/other/table.csv")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for change, shown in (
        ({"split_rows": "20000"}, "10,000 of 20,000 rows"),
        ({"value": "?"}, ""),
    ):
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(row | change for row in rows)
        report_files.write_index()
        page = Path("reports/index.html").read_text()
        assert shown in page and ("other/report.html" in page) == bool(shown)
    shutil.rmtree("reports/other")
    report_files.write_index()
    assert "other/report.html" not in Path("reports/index.html").read_text()
    assert [path.name for path in Path("reports").iterdir() if path.name.startswith(".")] == []


def test_samples_are_a_row_for_each_model_and_classes_are_those_that_were_given(files):
    files.manifest("digits", event=DIGITS)
    for name in ("digits-a", "digits-b", "digits-c"):
        media = files.evaluated("digits", name, 100.0, DIGITS).with_name("media")
        media.mkdir()
        images = np.random.default_rng(0).integers(0, 17, (64, 1, 8, 8))
        for title in ("samples", "real"):
            image_figures.write_strip(media / f"{title}.png", images, DIGITS, images)
    told = "name: made\n  num_classes: 10"
    partly = f"name: mixture\n  members:\n  - {told.replace('  ', '    ')}\n  - name: nade"
    for name, model in (("digits-b", told), ("digits-c", partly)):
        config = Path("models", name, "config.yaml")
        config.write_text(config.read_text().replace("name: made", model))
    page = reports.page(comparison.build_report("digits"))
    assert page.count('alt="real test images"') == 1
    assert 'alt="samples of a"' in page
    assert 'alt="samples of b, conditioned on class 0, 1, 2, 3' in page
    assert 'alt="samples of c"' in page, "not all its members are given the class"
    with pytest.raises(UserError, match="config.yaml: expected a picture, got "):
        gallery.read_picture(config, "no picture", "")


def test_the_stage_writes_all_files_and_shows_them(files, monkeypatch, capsys):
    reports.mnist(files)
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["report", "binarized_mnist"])
        stage.main()
    assert sorted(p.name for p in Path("reports").iterdir()) == ["binarized_mnist", "index.html"]
    files = sorted(p.name for p in Path("reports/binarized_mnist").iterdir())
    assert files == ["made_of.txt", "plotly.min.js", "report.html", "table.csv", "table.md"]
    lines = Path("reports/binarized_mnist/made_of.txt").read_text().splitlines()
    measured = sorted(Path("evaluation/binarized_mnist").glob("*/metrics.json"))
    assert lines == [
        f"{sha256_of(path)}  {path}"
        for path in [Path("codecs/binarized_mnist/codecs.json"), *measured]
    ]
    monkeypatch.setattr(sys, "argv", ["report", "--show"])
    stage.main()
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "binarized_mnist (test nats, lower is better)"
    assert shown[1].split() == [
        "experiment",
        "members",
        "test",
        "(nats)",
        "published",
        "difference",
    ]
    assert [line.split()[0] for line in shown[3:6]] == [
        "mnist-made-32",
        "mnist-made",
        "mnist-bound",
    ]
    page = Path("reports/binarized_mnist/report.html").absolute()
    assert shown[6].strip() == str(page) and "published" not in " ".join(shown[7:])
    with pytest.raises(UserError, match="run `python -m stages.report dna`"):
        report_files.show(["dna"])


def test_ten_rows_of_a_dataset_are_shown(files):
    files.manifest("binarized_mnist", "binarized_mnist")
    for number in range(12):
        files.evaluated("binarized_mnist", f"binarized_mnist-{number}", 88.0 + number)
    reports.conditional(files, "binarized_mnist", "binarized_mnist-of_a_class", 88.5)
    report_files.write("binarized_mnist")
    *_, more, page = lines = report_files.show().splitlines()
    rows = lines[3:-2]
    assert len(rows) == 10 and more.strip() == "... and 3 more" and page.endswith("report.html")
    assert "mnist-0" in rows[0] and "of_a_class" in rows[1] and " class " in rows[1]


def test_a_small_number_of_a_use_has_no_minus():
    assert wording.measured(-0.0004, math.nan) == "0.000"
    assert wording.measured(-0.0125, math.nan) == "-0.012"


def test_every_template_is_named() -> None:
    """So that the code of stages includes its content."""
    script = Path(templates.__file__)
    kept = [path.name for path in script.parent.iterdir() if path.suffix in (".j2", ".css")]
    assert kept and all(f'"{name}"' in script.read_text() for name in kept)
