"""The benchmarks' page is that of their records, and the benchmarks run."""

import json
import re
import subprocess
import sys

import pytest

from tests.places import MIRROR, ROOT

FOLDER = ROOT / "benchmarks"
KERNELS = {  # of a step, at most
    "wavenet": 169,
    "gated_pixelcnn": 82,
    "pixelcnn": 108,
    "video_pixel_network": 73,
    "diagonal_bilstm": 61,
    "made": 25,
}
QUICK = {  # seconds in all, in one process
    "kernels": [],
    "products": ["--sizes", "1"],
    "share": ["--steps", "1", "--only", "multiscale_pixelrnn"],
    "accelerator": ["--device", "cpu", "--scale", "1", "--steps", "1", "--only", "nade-sample"],
    "sampling": ["--quick", "--only", "nade"],
    "public": ["--pairs", "1", "--only", "nade"],
}
SLOW = {
    "against": ["HEAD", "--pairs", "1", "--only", "nade", "nade-sample"],
    "growth": ["--only", "sampling", "--sizes", "8"],
    "loading": ["--rows", "2000", "--times", "2", "--steps", "5", "--hidden", "8"],
    "wavenet": ["--quick"],
    "portable": ["results/binarized_mnist-nade", "--rows", "2"],
    "scale": ["--rows", "300"],
    "training_speed": ["--pairs", "1"],
    "overheads": ["--quick"],
    "bounds": ["--turns", "1", "--runs", "1", "--only", "pixelcnn"],
    "tables": ["--quick", "--only", "penguins"],
    "outliers": [str(MIRROR / "outlier_sets"), "--only", "glass", "--seconds", "1"],
}
HELPERS = {"page", "public_style", "measuring"}
LIBRARIES = {  # of the extra `benchmarks`, but for PyOD
    "training_speed": "nflows",
    "bounds": "nflows",
    "outliers": "pyod",
}
ONE_AFTER_THE_OTHER = """
import json, runpy, sys
sys.path.insert(0, "benchmarks")
for name, arguments in json.loads(sys.argv[1]).items():
    sys.argv = [name, *arguments]
    print("#", name)
    runpy.run_path(f"benchmarks/{name}.py", run_name="__main__")
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_page_is_up_to_date() -> None:
    code = "import page; print(page.page(), end='')"
    program = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); {code}"
    done = python("-c", program)
    assert done.stdout == (FOLDER / "README.md").read_text(), done.stderr


def test_every_benchmark_is_run() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {*QUICK, *SLOW, *HELPERS}


def test_the_quick_benchmarks_run() -> None:
    done = python("-c", ONE_AFTER_THE_OTHER, json.dumps(QUICK))
    assert done.returncode == 0, done.stderr
    printed = {part.split("\n", 1)[0]: part for part in done.stdout.split("# ")[1:]}
    assert printed.keys() == QUICK.keys()
    assert all(text.count("\n") > 1 for text in printed.values())
    counted = dict(re.findall(r"^\| (\w+) \| (\d+) \|$", printed["kernels"], re.MULTILINE))
    assert counted.keys() == KERNELS.keys()
    assert all(int(counted[name]) <= most for name, most in KERNELS.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_benchmark_runs(name: str) -> None:
    if name in LIBRARIES:
        pytest.importorskip(LIBRARIES[name], reason="make bench installs it")
    done = python(str(FOLDER / f"{name}.py"), *SLOW[name])
    assert done.returncode == 0 and done.stdout, done.stderr
