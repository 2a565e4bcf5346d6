"""The notebooks of docs/ run from top to bottom, and print what their kept outputs show."""

import json
import re
import warnings

import pytest
import torch
from matplotlib import pyplot

from tests.places import ROOT

MOST_BITS = {"tutorial": 2.1, "compression": 2.4, "your-images": 4.2, "codes": 5.2}  # PNG takes 4.3


@pytest.mark.parametrize(
    "page",
    [
        "compression",
        pytest.param("tutorial", marks=pytest.mark.slow),  # 15 s
        pytest.param("your-images", marks=pytest.mark.slow),  # 15 s
        pytest.param("codes", marks=pytest.mark.slow),  # 25 s
    ],
)
def test_a_notebook_runs(page: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    pyplot.switch_backend("agg")
    names: dict[str, object] = {"__name__": "__main__"}
    cells = [
        c
        for c in json.loads((ROOT / "docs" / f"{page}.ipynb").read_text())["cells"]
        if c["cell_type"] == "code"
    ]
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
    bits = names["bits"]
    assert isinstance(bits, torch.Tensor) and bits.mean() < MOST_BITS[page]
    if page != "your-images":
        data, promised = names["data"], names["promised"]
        assert isinstance(data, bytes) and promised < len(data) < promised + 200


def shape_of(text: str) -> str:
    """A text with its numbers left out, which differ from processor to processor."""
    return re.sub(r"\d[\d,.]*", "#", text)
