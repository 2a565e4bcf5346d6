"""docs/tutorial.ipynb: its cells run from top to bottom, and print what the kept outputs show."""

from __future__ import annotations

import json
import re
import time
import warnings
from pathlib import Path

import pytest
import torch
from matplotlib import pyplot

from tests.places import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
SECONDS = 60  # of the processor, on one thread; 15 on a Xeon


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_tutorial_runs(
    one_thread: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    pyplot.switch_backend("agg")
    names: dict[str, object] = {"__name__": "__main__"}
    cells = [c for c in json.loads(NOTEBOOK.read_text())["cells"] if c["cell_type"] == "code"]
    started = time.process_time()
    for number, cell in enumerate(cells, 1):
        before = set(pyplot.get_fignums())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "FigureCanvasAgg is non-interactive")
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
        drawn = set(pyplot.get_fignums()) - before
        assert len(drawn) == sum(out["output_type"] == "display_data" for out in cell["outputs"])
        printed = (out["text"] for out in cell["outputs"] if out["output_type"] == "stream")
        kept = "".join("".join(lines) for lines in printed)
        assert shape_of(capsys.readouterr().out) == shape_of(kept), f"cell {number}"
    pyplot.close("all")
    assert time.process_time() - started < SECONDS
    bits = names["bits"]
    assert isinstance(bits, torch.Tensor) and bits.mean() < 2.1
    data, promised = names["data"], names["promised"]
    assert isinstance(data, bytes) and promised < len(data) < promised + 200


def shape_of(text: str) -> str:
    """A text with its numbers left out, which differ from processor to processor."""
    return re.sub(r"\d[\d,.]*", "#", text)
