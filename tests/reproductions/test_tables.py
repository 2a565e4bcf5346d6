"""Tables in README, docs and results/ are what the records say, and so are the hours of all."""

import functools
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from arcore import hub
from pipeline.core.records import read_object
from pipeline.reporting.wording import rounded
from reproductions import estimate
from reproductions.publishing import picture_book, recorded, text_tables
from tests.places import ROOT

_SPEC = importlib.util.spec_from_file_location("overview", ROOT / "docs" / "overview.py")
overview = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(overview)
PAGES = sorted(path for pattern in text_tables.PAGES for path in ROOT.glob(pattern))


@functools.cache
def drawn() -> dict[Path, str]:
    """What each page should be; not on import, since every worker of the tests imports this."""
    return text_tables.drawn(ROOT)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_is_in_step_with_the_records(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == drawn()[page], "run `make tables`"


@pytest.mark.parametrize("page", text_tables.dataset_pages(ROOT / "results"), ids=lambda p: p.stem)
def test_the_table_of_a_dataset_is_in_step(page: Path) -> None:
    table = recorded.read(page.stem, page.parent).markdown
    assert page.read_text(encoding="utf-8") == table, "run `make tables`"


def test_the_gallery_is_in_step_and_small() -> None:
    results = ROOT / "results"
    text = (results / picture_book.PAGE).read_text(encoding="utf-8")
    assert text == picture_book.drawn(results), "run `make tables`"
    kept = sorted(path for path in (results / "gallery").rglob("*") if path.is_file())
    pictures = {path for path in kept if path.suffix != ".json"}
    named = {results / name for name in re.findall(r"\]\((gallery/[^)]+)\)", text)}
    assert named == pictures
    assert all(path.stat().st_size <= picture_book.MOST_BYTES for path in pictures)
    assert sum(path.stat().st_size for path in kept) < 4_000_000


def test_the_index_of_kept_weights_is_in_step(tmp_path: Path) -> None:
    for path in sorted((ROOT / "results").glob("*/*")):
        if path.name in hub.FILES:
            (tmp_path / path.parent.name).mkdir(exist_ok=True)
            (tmp_path / path.parent.name / path.name).symlink_to(path)
    kept = (ROOT / "results" / hub.INDEX).read_text()
    assert hub.write_index(tmp_path).read_text() == kept, "run `make tables`"


def test_pictures_are_of_the_weights_that_the_numbers_are_of() -> None:
    results, compared = ROOT / "results", 0
    for path in sorted((results / "gallery").glob("*/*.json")):
        record = results / path.parent.name / "metrics.json"
        if record.is_file() and (known := read_object(record).get("weights_sha256")):
            assert read_object(path)["weights_sha256"] == known, path
            compared += 1
        for name, weights in read_object(path).get("others", {}).items():
            other = read_object(results / name / "metrics.json")
            assert other["weights_sha256"] == weights, f"{path}: {name}"
    assert compared > 10


def test_every_table_is_in_a_page() -> None:
    text = "\n".join(drawn().values())
    for name in text_tables.Tables(ROOT / "results").described:
        assert f"<!-- table: {name} -->" in text


def test_the_picture_is_in_step() -> None:
    """Its numbers are texts of the SVG; so are those of its caption in README."""
    shown = [
        text.strip()
        for text in re.findall(r"<text[^>]*>([^<]*)</text>", overview.OVERVIEW.read_text())
    ]
    rows = overview.shown_rows()
    for name, row in rows.items():
        assert row.published is not None and row.published_value is not None
        doubt = "*" if row.published.doubt else ""
        numbers = [rounded(row.value, 2), rounded(row.published_value, 2) + doubt]
        assert overview.SHOWN[name] in shown
        assert numbers in [text.split() for text in shown]
    nats = rows[overview.SAMPLED].value
    name = f"{overview.DATASET}-{overview.SAMPLED}"
    trained: dict[str, Any] = read_object(ROOT / "results" / name / "training.json")
    assert f"Gated PixelCNN: {rounded(nats, 1)} nats" in shown
    caption = " ".join((ROOT / "README.md").read_text().split())
    minutes = trained["train_seconds"] / 60
    assert f"trained for {trained['epochs']} epochs, {minutes:.0f} minutes" in caption
    assert f"to {rounded(nats, 2)} nats" in caption


def test_members_are_counted_once(tmp_path: Path) -> None:
    for name, trained in (("a", 100.0), ("b", 50.0), ("both", 151.0)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps({"dataset": "digits"}))
        timing = {"train_seconds": trained, "evaluate_seconds": 3.0, "coded_seconds": 2.0}
        (folder / "timing.json").write_text(json.dumps(timing))
    rest = 3 * (3 + 2 * 2)  # what is coded is decoded too
    assert estimate.recorded(tmp_path, mixtures=["both"]) == {"digits": 150 + rest}
    assert estimate.recorded(tmp_path) == {"digits": 301 + rest}


def test_the_hours_of_this_project() -> None:
    params = yaml.safe_load((ROOT / estimate.PARAMS).read_text())
    text = estimate.notice(params, ROOT / "results")
    assert "hours of a core or two" in text and "  binarized_mnist, " in text
    assert max(map(len, text.splitlines())) <= 120
