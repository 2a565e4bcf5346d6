"""The wheel in an environment of its own: the library needs torch, NumPy and safetensors alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT, outputs_shown, python_examples

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PARTS = ("arcore", "pipeline", "stages", "reproductions", "pyproject.toml", "README.md", "LICENSE")


def run(*command: object, folder: Path) -> str:
    """Run a command that must succeed and warn of nothing; return what it prints."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV"))}
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a clean environment with the wheel, installed without extras."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in PARTS:
        path = ROOT / name
        copy = shutil.copytree if path.is_dir() else shutil.copyfile
        copy(path, source / name)
    run(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source, folder=folder
    )
    (built,) = folder.glob("arcore-*.whl")
    run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", built, folder=folder)
    return python


def script(python: Path, folder: Path, code: str) -> str:
    path = folder / "example.py"
    path.write_text(code)
    return run(python, "-I", "-W", "error", path, folder=folder)


def test_the_library_needs_three_packages(python: Path, tmp_path: Path) -> None:
    code = """
import importlib.metadata, re
required = importlib.metadata.requires("arcore")
print(*sorted(re.match(r"[a-z]+", line)[0] for line in required if "extra" not in line))
"""
    assert script(python, tmp_path, code).split() == ["numpy", "safetensors", "torch"]
    listed = run(python, "-m", "pip", "list", "--format=freeze", folder=tmp_path)
    there = {line.partition("==")[0].lower() for line in listed.split()}
    assert there & {"ray", "mlflow", "dvc", "tqdm", "constriction", "matplotlib"} == set()


def test_the_wheel_holds_the_library_alone(python: Path, tmp_path: Path) -> None:
    code = """
import importlib.metadata, importlib.util
files = importlib.metadata.files("arcore")
print(*sorted({file.parts[0] for file in files} - {".."}))
print(*(importlib.util.find_spec(name) for name in ("pipeline", "stages", "reproductions")))
"""
    packages, others = script(python, tmp_path, code).splitlines()
    assert packages.split()[0] == "arcore" and packages.split()[1].endswith(".dist-info")
    assert len(packages.split()) == 2 and others == "None None None"


def test_readmes_examples_run(python: Path, tmp_path: Path) -> None:
    examples = python_examples("README.md")
    code = "\n".join([*examples, "print(arcore.__file__, arcore.__version__)\n"])
    *printed, place = script(python, tmp_path, code).splitlines()
    assert printed == outputs_shown("README.md").splitlines()
    assert place.startswith(str(python.parents[1])), "the installed one, not the checkout's"


def test_saving_and_sampling_run(python: Path, tmp_path: Path) -> None:
    """The examples of docs/library.md, but for coding, which needs the extra of its name."""
    *examples, coding = python_examples("docs/library.md")
    refused = f"""
{"".join(examples)}
try:
    exec({coding!r})
except ValueError as error:
    print(error)
try:
    model.sample(2, progress=True)
except ValueError as error:
    print(error)
"""
    without_constriction, without_tqdm = script(python, tmp_path, refused).splitlines()[-2:]
    assert "arcore[coding]" in without_constriction
    assert "tqdm" in without_tqdm
