"""Experiments changed by hand have names of their own, and errors that point to the parameter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pipeline.core.errors import UserError
from pipeline.experiments import compose, params_file

ENTRY = {"dataset": "digits", "model": "made", "trainer": {"max_epochs": 9}}


@pytest.fixture
def project(workdir: Path) -> Path:
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": {"toy": ENTRY}}))
    return workdir


@pytest.mark.parametrize(
    ("overrides", "trained", "result"),
    [
        ((), "toy", "toy"),
        (("cluster=gpu", "cluster.num_workers=2"), "toy", "toy"),
        (("trainer.max_epochs=9",), "toy", "toy"),
        (("trainer.max_epochs=3",), "toy--trainer.max_epochs-3", "toy--trainer.max_epochs-3"),
        (("evaluation.seed=1",), "toy", "toy--evaluation.seed-1"),
        (
            ("trainer.seed=1", "evaluation.seed=1"),
            "toy--trainer.seed-1",
            "toy--evaluation.seed-1-trainer.seed-1",
        ),
        (("model=nade", "cluster=gpu"), "toy--model-nade", "toy--model-nade"),
    ],
)
def test_what_overrides_change_has_a_name_of_its_own(
    project: Path, overrides: tuple[str, ...], trained: str, result: str
) -> None:
    config = compose.load("toy", overrides)
    assert (config.name, config.result_name) == (trained, result)
    assert "evaluated_as" not in config.to_dict()


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("max_epochs=3", "unknown parameter 'max_epochs'; did you mean 'trainer.max_epochs' or"),
        ("learning_rate=1", "did you mean 'trainer.optimizer.learning_rate'"),
        ("hidden=[3]", "did you mean 'model.hidden'"),
        ("trainr.seed=1", "unknown parameter 'trainr.seed'; did you mean 'trainer.seed'"),
    ],
)
def test_a_parameter_without_its_section_is_pointed_to(
    project: Path, override: str, meant: str
) -> None:
    with pytest.raises(UserError) as caught:
        compose.load("toy", [override])
    assert meant in str(caught.value) and len(str(caught.value)) < 200


def test_of_many_experiments_the_three_nearest_are_named(workdir: Path) -> None:
    many = {f"digits-{number}-experiment": ENTRY for number in range(40)}
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": many}))
    with pytest.raises(UserError) as caught:
        compose.load("digits-7-experimnt")
    message = str(caught.value)
    assert "did you mean 'digits-7-experiment' or " in message and "(40 are known)" in message
    assert message.count("experiment'") == 3 and len(message) < 180
    text = params_file.listed("experiments")
    assert all(name in text for name in many) and "\ndigits\n" in text


def test_overrides_of_an_entry_lie_above_it_and_below_those_by_hand(workdir: Path) -> None:
    entry = ENTRY | {"overrides": ["trainer.max_epochs=5", "trainer.clip_norm=1.5"]}
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": {"toy": entry}}))
    assert compose.load("toy").trainer.max_epochs == 5 and compose.load("toy").name == "toy"
    config = compose.load("toy", ["trainer.max_epochs=7"])
    assert config.trainer.max_epochs == 7 and config.trainer.clip_norm == 1.5
    for wrong, message in (
        (["cluster=gpu"], "expected keys of model, trainer or evaluation, got 'cluster=gpu'"),
        ("trainer.seed=1", "expected a list of key=value"),
    ):
        broken = {"experiments": {"toy": ENTRY | {"overrides": wrong}}}
        Path("params.yaml").write_text(yaml.safe_dump(broken))
        with pytest.raises(UserError, match=message):
            compose.load("toy")


def test_a_part_of_the_rows_decides_a_result_only_where_it_is_given(project: Path) -> None:
    whole, part = (compose.load("toy", given) for given in ([], ["trainer.train_rows=9"]))
    named = [config.to_dict()["trainer"].get("train_rows") for config in (whole, part)]
    assert named == [None, 9] and "train_rows" not in whole.to_dict()["trainer"]
    same = replace(part, trainer=whole.trainer)
    assert part.config_hash("a") != same.config_hash("a")
