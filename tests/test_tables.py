"""Tables in README, docs and results/ are what the records say."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.reporting import recording, text_tables
from tests.places import ROOT

DRAWN = text_tables.drawn(ROOT)


@pytest.mark.parametrize("page", DRAWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_is_in_step_with_the_records(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == DRAWN[page], "run `make tables`"


@pytest.mark.parametrize("page", sorted((ROOT / "results").glob("[!R]*.md")), ids=lambda p: p.stem)
def test_the_table_of_a_dataset_is_in_step(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCORE_HOME", str(ROOT))
    assert page.read_text(encoding="utf-8") == recording.dataset_table(page.stem), (
        f"run `python -m stages.results --datasets {page.stem}`"
    )


def test_every_table_is_in_a_page() -> None:
    text = "\n".join(DRAWN.values())
    for name in text_tables.Tables(ROOT / "results").described:
        assert f"<!-- table: {name} -->" in text
