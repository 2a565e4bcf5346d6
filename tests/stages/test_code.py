"""What DVC reruns after an edit of sources: the real dvc.yaml, with commands that only write."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.experiments import layout
from tests.places import ROOT
from tests.support.sources import copy_code

EXPERIMENT = {"dataset": "digits", **layout.EXPERIMENT}
PARAMS = {
    "datasets": ["digits"],
    "experiments": {name: {"model": name} | EXPERIMENT for name in ("nade", "pixelcnn")},
    "searches": {"made": {"dataset": "digits", "model": "made"}},
    "folds": {"nade": {"dataset": "digits", "model": "nade"}},
    "uses": {"nade": {"dataset": "digits", "model": "nade", "uses": {"learned": {}}}},
    "studies": {"digits-race": {"dataset": "digits"}},
    "mixtures": {"both": {"dataset": "digits", "mixture": ["nade", "pixelcnn"]}},
}
DATA = {"fetch@digits", "preprocess@digits", "codecs@digits"}
ONE_MODEL = {
    "train@nade", "train@pixelcnn", "evaluate@nade", "evaluate@pixelcnn", "tune@made", "folds@nade",
    "use@nade", "join@both_nade", "join@both_pixelcnn",
}  # fmt: skip
ALL_MODELS = {"mix@both", "study@digits-race", "report@digits", "register@digits"}

pytestmark = pytest.mark.e2e


def writing(outputs: list[Any]) -> str:
    """A command that writes a stage's outputs, folders with two files each."""
    paths = [next(iter(out)) if isinstance(out, dict) else out for out in outputs]
    named = ("manifest.json", "scalings.json")  # which a stage may depend on
    files = [
        file
        for path in paths
        for file in ([path] if Path(path).suffix else [f"{path}/{name}" for name in named])
    ]
    return " && ".join(f"mkdir -p $(dirname {file}) && touch {file}" for file in files)


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("repository")
    copy_code(folder)
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    for stage in pipeline["stages"].values():
        if "do" in stage:
            kinds = ("outs", "metrics", "plots")
            outputs = [out for kind in kinds for out in stage["do"].get(kind, [])]
            stage["do"]["cmd"] = writing(outputs)
    (folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    write_params(folder, PARAMS)
    shutil.copy(ROOT / ".dvcignore", folder)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\nno_scm = true\n")
    assert repro(folder) == {"code"} | DATA | ONE_MODEL | ALL_MODELS
    return folder


def write_params(folder: Path, params: dict[str, Any]) -> None:
    text = yaml.safe_dump(params)
    (folder / "params.yaml").write_text(text)
    (folder / "foreach.yaml").write_text(layout.foreach_of(text))


def repro(folder: Path) -> set[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "Running stage '" in line]
    return {line.split("'")[1] for line in lines}


def edit(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text()
    assert old in text, name
    path.write_text(text.replace(old, new, 1))


def test_what_is_edited_reruns_what_has_it(repository) -> None:
    """A model its own stages, another evaluation its folds, a docstring, comment or new model none.

    The result of an entry that goes stays where DVC put it and leaves no row.
    """
    edit(repository, "arcore/models/pixelcnn.py", "import torch", "import math\nimport torch")
    (repository / "arcore/models/markov.py").write_text("from arcore import model\n")
    for name in ("arcore/model.py", "pipeline/training/worker.py", "stages/train.py"):
        edit(repository, name, '"""', '"""Truly: ')
        edit(repository, name, "\nfrom ", "\n\n# What follows is needed.\nfrom ")
    nade, pixelcnn = (PARAMS["experiments"][name] for name in ("nade", "pixelcnn"))
    experiments = {"nade": nade | {"evaluation": {"num_samples": 4}}, "pixelcnn": pixelcnn}
    for more in ({"more": nade}, {}):
        write_params(repository, PARAMS | {"experiments": experiments | more})
        if more:
            edited = {"code", "train@more", "evaluate@more", "evaluate@nade", "folds@nade"}
            edited |= {"train@pixelcnn", "evaluate@pixelcnn", "join@both_pixelcnn"} | ALL_MODELS
            assert repro(repository) - {"join@both_nade"} == edited
        else:
            edit(repository, "pipeline/reporting/published_results.yaml", "\n", "\n\n")
            assert repro(repository) == {"code", *ALL_MODELS} - {"mix@both"}
