"""The benchmarks' page is that of their records, and the benchmarks run."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
    "direct": ["--seeds", "2", "--epochs", "1"],
    "public": ["--pairs", "1", "--steps"],
    "scale": ["--rows", "300"],
    "training_speed": ["--pairs", "1"],
}
HELPERS = {"page", "public_style", "recording"}
MINUTES = {"overheads"}  # even in its quick form
LIBRARIES = {"training_speed": "nflows"}  # of the extra `benchmarks`


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_page_is_up_to_date() -> None:
    code = "import page; print(page.page(page.kept()), end='')"
    program = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); {code}"
    done = python("-c", program)
    assert done.stdout == (FOLDER / "README.md").read_text(), done.stderr


def test_every_benchmark_is_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == set(QUICK) | HELPERS | MINUTES


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_benchmark_runs(name: str) -> None:
    if name in LIBRARIES:
        pytest.importorskip(LIBRARIES[name], reason="make bench installs it")
    done = python(str(FOLDER / f"{name}.py"), *QUICK[name])
    assert done.returncode == 0 and done.stdout, done.stderr
