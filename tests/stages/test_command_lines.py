"""Bad input to each stage: exit status 1 and one line."""

import subprocess
import sys
from typing import Any

import pytest

from tests.places import ROOT

TOY: dict[str, Any] = {
    "dataset": "digits_binary",
    "model": "made",
    "model_overrides": {"num_masks": 2, "hidden": [8]},
    "trainer": {"max_epochs": 2},
}


SEARCH = {
    "dataset": "digits_binary",
    "model": "made",
    "space": {"model.hidden": {"choice": [[8], [16]]}},
}


@pytest.fixture(scope="module")
def project(make_project):
    """A project with shards of one dataset, and nothing trained, whose stages start cold."""
    project = make_project(
        {
            "toy": TOY,
            "toys": TOY | {"evaluation": {"num_members": 3}},
            "elsewhere": TOY | {"dataset": "dna"},
            "misspelt": TOY | {"optimiser": {}},
            "unnamed": {"dataset": "digits_binary"},
            "nameless": "made",
            "../up": TOY,
            1: {"dataset": "digits_binary"},
        },
        warmed=False,
    )
    project.edit_params(lambda params: params.update(searches={"toy": SEARCH, "listed": [1]}))
    return project


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train ty", "unknown experiment 'ty'; did you mean 'toy'"),
        ("train toy dataset=digts", "unknown dataset 'digts'; did you mean 'digits'"),
        ("train toy model=mad", "unknown model 'mad'; did you mean 'made'"),
        ("train toy cluster=gpus", "unknown cluster 'gpus'; did you mean 'gpu'"),
        ("train toy trainer.max_epoch=3", "unknown parameter of trainer 'max_epoch'; did you mean"),
        ("train toy trainr.max_epochs=3", "unknown parameter 'trainr.max_epochs'; did you mean"),
        ("train elsewhere model.hiden=[8]", "got 'hiden' (did you mean 'hidden'?)"),
        ("train toy trainer.optimizer.lr=1", "unknown parameter of trainer.optimizer 'lr'"),
        (
            "train toy trainer.max_epochs=many",
            "trainer.max_epochs: expected an integer, got 'many'",
        ),
        ("train toy trainer.max_epochs=1.5", "trainer.max_epochs: expected an integer, got 1.5"),
        ("train toy trainer.max_epochs=0", "trainer.max_epochs: expected >= 1, got 0"),
        ("train toy --fresh trainer.max_epochs=0", "trainer.max_epochs: expected >= 1, got 0"),
        ("train toy trainer.optimizer=adam", "trainer.optimizer: expected a mapping, got 'adam'"),
        ("train toy evaluation=3", "evaluation: expected a mapping, got 3"),
        ("train toy dataset.row=3", "unknown digits_binary option 'row'"),
        ("train toy trainer.optimizer.learning_rate=.inf", "learning_rate: expected a finite"),
        ("train toy trainer=fast", "trainer: expected a mapping, got 'fast'"),
        ("train toy trainer.optimizer.name=adamm", "optimizer.name: expected 'adam', "),
        ("train toy trainer.optimizer.momentum=0.5", "momentum: expected 0 for adam, got 0.5"),
        ("train toy trainer.max_epochs", "override: expected key=value, got 'trainer.max_epochs'"),
        ("train toy =3", "override: expected key=value, got '=3'"),
        ("train toy trainer.max_epochs=[3", "trainer.max_epochs: expected YAML"),
        ("train toy trainer.seed=???", "trainer.seed: expected an integer, got '???'"),
        ("train toy model.hidden=8", "model: hidden: expected "),
        ("train toy model.num_masks=-1", "model: num_masks: expected an integer >= 0, got -1"),
        ("train toy model.num_classes=3", "model.num_classes: expected "),
        ("train toys", "num_members: expected at most 2 for MADE, got 3"),
        ("train toy model=nade evaluation.num_members=2", "model: "),
        (
            "train elsewhere",
            "data/shards/dna/manifest.json: file not found; run python -m stages.fetch dna",
        ),
        ("train misspelt", "unknown key of experiments.misspelt 'optimiser'"),
        ("train unnamed", "experiments.unnamed.model: expected a name, got None"),
        ("train ../up", "experiment: expected a name of letters, digits, '_' and '-', got '../up'"),
        ("train 1", "experiments.1.model: expected a name, got None"),
        ("train nameless", "experiments.nameless: expected a mapping, got 'made'"),
        ("train toy cluster.num_workers=64", "cluster: expected nodes that hold 64 workers of "),
        (
            "train toy cluster.use_gpu=true",
            "cluster.use_gpu: expected a CUDA device on this machine, got none",
        ),
        ("tune nothing", "unknown search 'nothing' (known: listed, toy)"),
        ("tune listed", "searches.listed: expected a mapping, got [1]"),
        ("tune toy num_trial=4", "unknown key of searches.toy 'num_trial'; did you mean 'num_tri"),
        ("tune toy num_trials=none", "searches.toy.num_trials: expected an integer, got 'none'"),
        ("tune toy model.dropout=2", "searches.toy: model: dropout: expected a number in [0, 1)"),
        ("tune toy model.hidden=[0]", "expected what searches.toy.space does not draw"),
        ("tune toy trainer.epochs=2", "unknown parameter of trainer 'epochs'"),
        (
            "tune toy cluster.cpus_per_worker=64",
            "cluster: expected nodes that hold 1 workers of 64 CPUs",
        ),
        ("evaluate toy", "models/toy/config.yaml: expected the trained model of 'toy'"),
        ("evaluate ty", "unknown experiment 'ty'; did you mean 'toy'"),
        ("evaluate toy evaluation.num_members=0", "evaluation.num_members: expected >= 1"),
        ("evaluate toy evaluation.members=2", "unknown parameter of evaluation 'members'"),
        (
            "evaluate toy trainer.seed=7",
            "found none; run python -m stages.train toy with the same settings",
        ),
        ("codecs digits_binry", "unknown dataset 'digits_binry'; did you mean 'digits_binary'"),
        ("codecs digits", "data/shards/digits/manifest.json: file not found"),
        ("report digits_binary", "evaluation/digits_binary"),
        ("report digits_binry", "unknown dataset 'digits_binry'; did you mean 'digits_binary'"),
        ("fetch digts", "error: unknown dataset 'digts'; did you mean 'digits'"),
        ("preprocess digits row=1", "error: unknown digits option 'row'"),
        ("preprocess dna", "error: data/raw/dna/dna.train.data: file not found"),
        ("register digits_binary", "evaluation/digits_binary"),
        ("register --all", "nothing evaluated yet; run evaluate first"),
    ],
)
def test_bad_input(
    project, command, small_cluster: None, line: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing starts: the cluster of these tests must not be used."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert message in command(project.folder, *line.split())
    assert not (project.folder / "models").exists()


STAGES = sorted({path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__", "cli"})
SAID = {"fetch": "datasets:", "preprocess": "datasets:"}


@pytest.mark.parametrize("stage", STAGES)
def test_help_and_usage(run_stage, capsys: pytest.CaptureFixture[str], stage: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run_stage(ROOT, stage, "--help")
    said = capsys.readouterr()
    assert ended.value.code == 0 and said.err == ""
    assert said.out.startswith(f"usage: python -m stages.{stage}")
    assert SAID.get(stage, "") in said.out


def test_the_process_exits_with_1_and_one_line(project) -> None:
    done = project.stage("train", "toy", "trainer.max_epochs=0")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "error: trainer.max_epochs: expected >= 1, got 0\n"


REFUSED = """
import importlib, sys
from pipeline.core.errors import UserError
imported = lambda: sorted({"torch", "ray", "mlflow", "hydra"} & set(sys.modules))
for line in sys.stdin:
    stage, *sys.argv[1:] = line.split()
    try:
        importlib.import_module(f"stages.{stage}").main()
    except UserError:
        print(stage, *imported())
"""


def test_names_and_settings_are_refused_without_torch_or_ray() -> None:
    stages = ("train", "evaluate", "tune", "folds", "mix", "fetch", "preprocess", "codecs",
              "report", "register")  # fmt: skip
    lines = [*(f"{stage} nam" for stage in stages), "train digits-made trainer.max_epoch=1"]
    command = [sys.executable, "-c", REFUSED]
    done = subprocess.run(
        command, cwd=ROOT, input="\n".join(lines), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [*stages, "train hydra"]
