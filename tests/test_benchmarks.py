"""The benchmarks' page is that of their records, and the benchmarks run."""

from __future__ import annotations

import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from arcore.events import Levels
from tests.places import ROOT

FOLDER = ROOT / "benchmarks"
QUICK = {
    "products": [],
    "share": ["--steps", "1", "--only", "made"],
    "accelerator": ["--device", "cpu", "--scale", "1", "--steps", "1", "--only", "nade"],
    "against": ["HEAD", "--pairs", "1", "--only", "nade", "nade-sample"],
    "ensembles": ["--rows", "10", "--orderings", "2", "--threads", "1"],
    "growth": ["--only", "sampling", "--sizes", "8"],
    "denormals": ["--steps", "2"],
    "loading": ["--rows", "2000", "--times", "2", "--steps", "5", "--hidden", "8"],
    "precision": ["--epochs", "1", "--only", "pixelcnn"],
    "sampling": ["--quick", "--only", "nade"],
    "wavenet": ["--quick"],
}


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_page_is_up_to_date() -> None:
    code = "import page; print(page.page(page.kept()), end='')"
    program = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); {code}"
    done = python("-c", program)
    assert done.stdout == (FOLDER / "README.md").read_text(), done.stderr


def test_what_every_sample_of_a_sound_gains_is_certain(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import paired

    lengths, split = torch.tensor([100, 300, 50, 800]), []
    evaluated = []
    for name, nats in (("first", 2.0), ("second", 1.9)):
        (tmp_path / name).mkdir()
        rows = [f"{row},{float(lengths[row]) * nats}" for row in (3, 1, 0)]
        (tmp_path / name / "scores_novel.csv").write_text("\n".join(["row,nats", *rows]))
        result = SimpleNamespace(unit="bits_per_dim", dataset="sounds")
        event = Levels(256, (None,))
        evaluated.append(
            SimpleNamespace(name=name, folder=tmp_path / name, event=event, result=result)
        )
    sounds = SimpleNamespace(labels=lengths[:, None].numpy())
    monkeypatch.setattr(
        paired.shard_reader, "read_split", lambda _, name: split.append(name) or sounds
    )
    found = paired.difference(*evaluated, "scores_novel.csv")
    assert split == ["novel"]
    assert found["bits_per_dim"] == [pytest.approx(0.1 / math.log(2), abs=1e-5), 0.0]


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_benchmark_runs(name: str) -> None:
    done = python(str(FOLDER / f"{name}.py"), *QUICK[name])
    assert done.returncode == 0 and done.stdout, done.stderr
