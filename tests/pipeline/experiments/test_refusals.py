"""What a configuration cannot mean is one line that names the file and the key."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline.core.errors import UserError
from pipeline.core.yaml_settings import dump_yaml
from pipeline.datasets import catalog
from pipeline.experiments import compose, groups, params_file
from pipeline.experiments.schema import ExperimentConfig
from tests.support.refusals import refused

BILLION_LAUGHS = "experiments:\n  a: &a {x: 1}\n" + "".join(
    f"  {b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise("abcdefghijk")
)


def write(text: str) -> None:
    Path("params.yaml").write_text(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixtures:\n  1: {a: b}\n  '1': {a: c}\n", "the key '1' twice"),
        ("experiments: {}\nexperiments: {a: {}}\n", "the key 'experiments' twice"),
        ("experiments: [1]\n", "experiments: expected a mapping"),
        ("datasets: [digits]\n", "experiments: expected a mapping, got None"),
        ("experiments: {}\nmixtures: [1]\n", r"mixtures: expected a mapping, got \[1\]"),
        ("experiments: {}\ndatasets: digits\n", "datasets: expected a list, got 'digits'"),
        ("experiments: {}\nserches: {}\n", "'serches'; did you mean 'searches'"),
        ("experiments: {}\nnope: {}\n", "unknown key of params.yaml 'nope'"),
        ("experiments: {toy: {", "expected YAML, got while parsing"),
        ("experiments: " + "[" * 5000, "expected YAML, got .*(recursion|nesting depth)"),
        ("experiments: " + "[" * 60 + "]" * 60, "or more than 50 levels"),
        (BILLION_LAUGHS, "expected YAML, got more than 100,000 values"),
        ("\xff", "expected an object, got str"),
        ("- toy", "expected an object, got list"),
        (None, "params.yaml: expected a file in "),
    ],
)
def test_params_that_say_two_things_or_none(workdir: Path, text: str | None, message: str) -> None:
    if text is not None:
        write(text)
    with refused(message) as caught:
        params_file.read_params()
    assert "params.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "epochs"), [("017", 17), ("0x11", 17), ("1:30", None), ("yes", None), ("1_0", None)]
)
def test_numbers_are_those_of_yaml_1_2_as_dvc_reads_them(
    toy, value: str, epochs: int | None
) -> None:
    assert YAML(typ="safe", pure=True).load(f"a: {value}")["a"] == (epochs or value) or "_" in value

    def by_entry() -> ExperimentConfig:
        entry = f"{{dataset: digits, model: made, trainer: {{max_epochs: {value}}}}}"
        write(f"experiments:\n  toy: {entry}")
        return compose.load("toy")

    for composed in (by_entry, lambda: toy(f"trainer.max_epochs={value}")):
        if epochs is None:
            with refused(f"max_epochs: expected an integer, got '{value}'"):
                composed()
        else:
            assert composed().trainer.max_epochs == epochs


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_overrides": "abc"}, "experiments.toy.model_overrides: expected a mapping, got"),
        ({"trainer": [1]}, "experiments.toy.trainer: expected a mapping, got"),
        ({"model_override": {}}, "unknown key of experiments.toy 'model_override'"),
        ({"base": "base.yaml"}, "base.yaml: expected YAML, got"),
        ({"overrides": ["trainer.seed=1"]}, "unknown key of experiments.toy 'overrides'"),
        ({"base": "."}, "expected YAML, got Is a directory"),
        ({"base": "none.yaml"}, "experiments.toy.base: none.yaml: expected a file, found none"),
    ],
)
def test_entries_of_other_kinds(toy, changed: dict[str, Any], message: str) -> None:
    Path("base.yaml").write_bytes(b"\xff\xfe model: {}")
    with refused(message):
        toy(**changed)


OTHER = (
    "experiments.toy: model.name: expected 'made', which 'model' chooses (by hand: model=<name>), "
    "got 'nade'"
)


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ([], {"model_overrides": {"name": "nade"}}),
        ([], {"base": "base.yaml"}),
        (["model.name=nade"], {}),
    ],
)
def test_no_other_model_is_trained_than_is_named(
    toy, override: list[str], changed: dict[str, Any]
) -> None:
    """Of which dvc.yaml's dependencies are."""
    Path("base.yaml").write_text("model: {name: nade}\n")
    with pytest.raises(UserError) as caught:
        toy(*override, **changed)
    assert str(caught.value) == OTHER


def test_a_model_by_hand_is_chosen_by_its_group(toy) -> None:
    assert toy(model_overrides={"name": "made"}).model["name"] == "made"
    assert toy("model=nade").model["name"] == "nade"
    assert toy("model=nade", "model.name=nade").model["name"] == "nade"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer=3", "^trainer: expected a mapping, got 3$"),
        ("trainer.seed=[[[[", "^trainer.seed: expected YAML, got while parsing"),
        ("model=", r"^unknown model '' \(known: any_order_transformer, "),
    ],
)
def test_overrides_of_other_kinds(toy, override: str, message: str) -> None:
    with refused(message):
        toy(override)


@pytest.fixture
def conf(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of groups of a project with an experiment and no dataset's file."""
    conf = workdir / "conf"
    shutil.copytree(groups.CONF / "cluster", conf / "cluster")
    (conf / "dataset").mkdir()
    monkeypatch.setattr(catalog, "CONF_FOLDER", conf / "dataset")
    monkeypatch.setattr(groups, "CONF", conf)
    return conf


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: mnist\n", "digits.yaml: name: expected 'digits', got 'mnist'"),
        ("name: digits\nname: mnist\n", "digits.yaml: expected YAML, got the key 'name' twice"),
        ("name: [", "digits.yaml: "),
        ("- 1\n", "digits.yaml: "),
    ],
)
def test_files_of_datasets_are_their_own(toy, conf: Path, text: str, message: str) -> None:
    (conf / "dataset" / "digits.yaml").write_text(text)
    with refused(message):
        catalog.load_settings("digits")
    with refused("digits.yaml"):
        toy()


def test_a_file_of_a_dataset_of_ones_own_is_read_as_it_was_written(toy, conf: Path) -> None:
    classes = ["1e3", "00e8", "???", "${", "${oc.env:HOME}"]
    for name in classes:
        Path("images", name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(Path("images", name, "0.png"))
    options = {"path": "images", "height": 8, "width": 8, "gray": True, "classes": classes}
    written = {"name": "odd", "kind": "image_folder", **options}
    (conf / "dataset" / "odd.yaml").write_text(dump_yaml(written))
    assert toy("dataset.split_seed=3", dataset="odd").dataset == written | {"split_seed": 3}
