"""CONTRIBUTING.md's example of a new model, followed to the letter in a copy of the library."""

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.arcore.cases import CASES, MODELS
from tests.places import ROOT
from tests.support import worked_example

SCRIPT = """
import torch, arcore
model = arcore.create_model("markov_chain", arcore.events.Levels(3, (1, 4, 4)))
x = model.sample(5, generator=torch.Generator().manual_seed(0))
known = "markov_chain" in arcore.list_models()
print(known, type(model).__module__, tuple(model.log_prob(x).shape))
from pipeline.experiments import compose
config = compose.load("digits-markov_chain")
print(config.dataset["name"], config.model["name"], config.trainer.max_epochs)
"""


def test_a_file_in_the_folder_of_models_and_an_entry_are_all_that_is_needed(tmp_path: Path) -> None:
    for package in ("arcore", "pipeline"):
        shutil.copytree(ROOT / package, tmp_path / package)
    (tmp_path / worked_example.MODEL).write_text(worked_example.code_of(worked_example.MODEL))
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"experiments": yaml.safe_load(shown)}))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "ARCORE_HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    built, composed = done.stdout.splitlines()
    assert built == "True arcore.models.markov_chain (5,)"
    assert composed == "digits markov_chain 5"


def test_the_laws_run_on_it() -> None:
    names = {case.name for case in CASES if case.model == "markov_chain"}
    assert len(names) >= 4 and "markov_chain" in MODELS
    kind = MODELS["markov_chain"]
    assert kind.__doc__ and inspect.getdoc(kind.Config)
