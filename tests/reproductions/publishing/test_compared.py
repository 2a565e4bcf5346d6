"""The plot of recorded searches: drawn where all are there, and anew only where they changed."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import pytest

from pipeline.core.errors import UserError
from reproductions.publishing import compared


def test_it_is_drawn_of_all_searches_and_once(tmp_path: Path) -> None:
    tables = {
        name: "status,best_valid_nats,model.ordering\nfinished,80.5,raster\nfailed,,snake\n"
        for name in compared.ORDERINGS.values()
    }
    tables[compared.HEADS] = (
        "status,best_valid_nats,model.head,trainer.train_rows\n"
        "finished,90,softmax,80\nfinished,95,softmax,40\n"
    )
    for name, text in tables.items():
        assert compared.write(tmp_path) is None
        path = tmp_path / "searches" / name / "trials.csv"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert compared.write(tmp_path) == tmp_path / compared.FILE
    assert compared.write(tmp_path) is None
    path.write_text(tables[compared.HEADS].replace("95", "94"))
    assert compared.write(tmp_path) == tmp_path / compared.FILE
    picture = tmp_path / compared.FILE
    whole = picture.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"no picture"):
        picture.write_bytes(damaged)
        assert compared.write(tmp_path) == picture and picture.read_bytes() == whole
    assert not list(tmp_path.glob(".*"))
    path.write_text(tables[compared.HEADS].replace("95", "many"))
    with pytest.raises(UserError, match=r"train_rows/trials\.csv: best_valid_nats: expected a num"):
        compared.write(tmp_path)


def test_a_drawing_that_is_cut_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compared, "_draw", lambda files: CutFigure())
    for name in (*compared.ORDERINGS.values(), compared.HEADS):
        path = tmp_path / "searches" / name / "trials.csv"
        path.parent.mkdir(parents=True)
        path.write_text("")
    (tmp_path / compared.FILE).write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt):
        compared.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [compared.FILE]
    assert (tmp_path / compared.FILE).read_bytes() == b"before"


class CutFigure:
    """Writes a little and is interrupted."""

    def savefig(self, file: IO[bytes], **options: object) -> None:
        file.write(b"cut")
        raise KeyboardInterrupt
