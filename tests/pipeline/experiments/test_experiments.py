"""Configuration: every source composes; what decides a result is what the config hash covers."""

import dataclasses
import math
import shutil
from pathlib import Path

import pytest
import torch
import yaml

import arcore
from arcore.zoo import model_class
from pipeline.core.errors import UserError
from pipeline.datasets import catalog
from pipeline.experiments import compose, groups, layout, params_file, schema
from pipeline.reporting.published import match, published_for
from pipeline.search import spec
from pipeline.training import resolved
from tests.places import ROOT

FILES = sorted(groups.CONF.glob("*/*.yaml"))
EXPERIMENTS = sorted(params_file.read_params(ROOT / "params.yaml")["experiments"])
EVENT = arcore.events.Levels(5, (1, 3, 2))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_file_composes(toy, path: Path) -> None:
    group, choice = path.parent.name, path.stem
    loaded = toy(f"{group}={choice}")
    written = yaml.safe_load(path.read_text())
    if group == "dataset":
        dataset = catalog.get_dataset(loaded.dataset)
        options = {"name": choice} | dataclasses.asdict(dataset.options)
        assert options | {"builder": written["builder"]} == written
    else:
        assert group == "cluster"
        built = schema.build(schema.ClusterConfig, written, group)
        assert built == loaded.cluster
        defaults = schema.ClusterConfig()
        assert all(getattr(defaults, key) != value for key, value in written.items())


@pytest.mark.parametrize("name", arcore.list_models())
def test_defaults_are_those_of_the_dataclasses(toy, name: str) -> None:
    loaded = toy(f"model={name}")
    kinds = model_class(name).supports
    event = EVENT if isinstance(EVENT, kinds) else arcore.events.Real((2, 3))
    with torch.device("meta"):
        model = resolved.create_model(loaded.model, event)
    assert loaded.model == {"name": name} | model.hyperparameters.to_dict()
    assert loaded.trainer == schema.TrainerConfig()
    assert loaded.evaluation == schema.EvaluationConfig()
    assert loaded.cluster == schema.ClusterConfig()


def test_a_file_of_a_cluster_says_what_differs(toy, monkeypatch) -> None:
    shutil.copytree(groups.CONF, "conf")
    Path("conf/cluster/two.yaml").write_text("num_workers: 2\n")
    monkeypatch.setattr(groups, "CONF", Path("conf").resolve())
    overrides = ("cluster=two", "cluster.max_failures=1")
    assert toy(*overrides).cluster == schema.ClusterConfig(num_workers=2, max_failures=1)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_of_the_project(monkeypatch, tmp_path, name: str) -> None:
    """Where one starts from a search, any values of its space will do."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("ARCORE_CLUSTER", raising=False)
    params = params_file.read_params()
    base = Path(params["experiments"][name].get("base", layout.BASE))
    if base.parts[0] == "searches":
        search = spec.load_search(base.parts[1])
        monkeypatch.setenv("ARCORE_HOME", str(tmp_path))
        (tmp_path / base).parent.mkdir(parents=True)
        overlay = search.overlay({p.name: p.examples()[-1] for p in search.space})
        (tmp_path / base).write_text(yaml.safe_dump(overlay))
        for key in ("dataset", "model"):
            assert params["experiments"][name][key] == params["searches"][search.name][key]
    loaded = compose.load(name)
    dataset = catalog.get_dataset(loaded.dataset)
    assert dataset.name in params["datasets"]
    asked = set(compose.ENTRY_KEYS) - {"base"}
    assert set(params["experiments"][name]) - {"base"} == asked, "DVC asks for all of them"
    with torch.device("meta"):
        model = resolved.create_model(loaded.model, dataset.event)
    for members in (loaded.evaluation.num_members, loaded.trainer.validate_members):
        members = members or model.num_members
        if members > 1:
            assert len(model.ensemble(members)) == members
    plan = loaded.evaluation
    for counterpart in (plan.published, plan.published_member, plan.published_importance):
        if counterpart is not None:
            match(published_for(dataset.published_name), counterpart, name)


def test_dvc_yaml_lists_the_params_that_an_experiment_may_have() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    listed = {
        param.removeprefix("experiments.${key}.")
        for stage in ("train", "evaluate")
        for param in stages[stage]["do"]["params"]
        if isinstance(param, str)
    }
    assert listed == set(compose.ENTRY_KEYS) - {"base"}, "which is a dependency"


def test_layers_are_laid_over_each_other(toy) -> None:
    loaded = toy(
        "trainer.optimizer.learning_rate=0.5",
        "model.hidden=[7]",
        "cluster=gpu",
        model_overrides={"hidden": [9, 9], "num_masks": 3},
        trainer={"optimizer": {"name": "sgd", "learning_rate": 0.1}, "patience": 2},
        evaluation={"num_members": 3, "published": {"model": "MADE", "variant": "-"}},
    )
    assert loaded.trainer.optimizer == schema.OptimizerConfig(name="sgd", learning_rate=0.5)
    assert loaded.trainer.patience == 2 and loaded.trainer.max_epochs == 20
    assert loaded.model["hidden"] == [7] and loaded.model["num_masks"] == 3
    assert loaded.cluster.use_gpu and loaded.evaluation.num_members == 3
    assert toy("trainer.optimizer.betas=[0.5,0.9]").trainer.optimizer.betas == (0.5, 0.9)
    assert toy("trainer.optimizer.learning_rate=1e-2").trainer.optimizer.learning_rate == 0.01


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("model.hidden=[3]", False), ("trainer.max_epochs=3", False), ("trainer.seed=1", False),
        ("dataset=digits_binary", False), ("cluster.num_workers=2", True), ("cluster=gpu", True),
        ("evaluation.num_samples=3", True),
    ],
)  # fmt: skip
def test_the_config_hash_is_of_what_decides_the_weights(toy, override: str, same: bool) -> None:
    assert (toy(override).config_hash("d") == toy().config_hash("d")) == same
    assert toy().config_hash("d") != toy().config_hash("e")


def test_where_files_lie_decides_no_weights_and_rows_of_shards_their_order(toy) -> None:
    def hashed(**options: object) -> str:
        changed = toy().dataset | options
        return dataclasses.replace(toy(), dataset=changed).config_hash("d")

    assert hashed(path="a") == hashed(path="b") == hashed()
    assert hashed(rows_per_shard=7) != hashed()


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (schema.TrainerConfig, {"precision": "half"}, r"trainer\.precision: expected .*got 'half'"),
        (schema.TrainerConfig, {"compile": 1}, r"trainer\.compile: expected true or false, got 1"),
        (schema.TrainerConfig, {"batch_size": True}, r"batch_size: expected an integer, got True"),
        (schema.TrainerConfig, {"ema_decay": 1}, r"ema_decay: expected < 1, got 1"),
        (schema.TrainerConfig, {"clip_norm": 0}, r"clip_norm: expected > 0, got 0"),
        (schema.TrainerConfig, {"patience": 0}, r"patience: expected >= 1, got 0"),
        (schema.TrainerConfig, {"schedule": {"name": "cosin"}}, "name: expected 'constant', "),
        (schema.TrainerConfig, {"schedule": {"final_factor": 2}}, r"final_factor: .* got 2"),
        (schema.TrainerConfig, {"optimizer": {"betas": [0.9]}}, r"trainer: missing 1"),
        (schema.TrainerConfig, {"optimizer": {"weight_decay": math.inf}}, r"weight_decay: .*inf"),
        (schema.TrainerConfig, {"optimizer": {"eps": math.inf}}, r"eps: expected a finite"),
        (schema.TrainerConfig, {"schedule": {"decay": math.inf}}, r"decay: expected a finite"),
        (schema.EvaluationConfig, {"published": {"model": "MADE"}}, r"\{model, variant, split\}"),
        (schema.EvaluationConfig, {"importance_samples": -1}, "importance_samples: .*, got -1"),
        (schema.EvaluationConfig, {"num_samples": 10**11}, "num_samples: expected .*, got 10000"),
        (schema.EvaluationConfig, {"importance_rows": 1}, "importance_rows: expected >= 2, got 1"),
        (schema.EvaluationConfig, {"num_test_rows": 1}, r"num_test_rows: expected >= 2"),
        (schema.ClusterConfig, {"num_workers": -1}, r"cluster\.num_workers: expected >= 0, got -1"),
        (schema.ClusterConfig, {"storage": 3}, r"storage: expected a text, got 3"),
    ],
)
def test_values_are_checked(kind, given, message: str) -> None:
    where = kind.__name__.removesuffix("Config").lower()
    with pytest.raises(UserError, match=message):
        schema.build(kind, given, where)


@pytest.mark.parametrize(
    ("model", "hyperparameters", "validated", "scored"),
    [
        ("made", {}, 1, 1),
        ("made", {"num_masks": 0}, 1, 1),
        ("made", {"num_masks": 3}, 3, 3),
        ("deep_nade", {"num_orderings": 3}, 1, 3),
        ("nade", {}, 1, 1),
    ],
)
def test_the_members_of_a_model_are_stated_once(
    toy, model: str, hyperparameters: dict[str, int], validated: int, scored: int
) -> None:
    config = toy(model=model, model_overrides=hyperparameters)
    assert config.trainer.validate_members == validated
    assert config.evaluation.num_members == scored
    given = compose.load("toy", ["trainer.validate_members=null", "evaluation.num_members=2"])
    assert (given.trainer.validate_members, given.evaluation.num_members) == (None, 2)


def test_the_cluster_of_a_run_without_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert groups.load_cluster([]) == schema.ClusterConfig()
    assert groups.load_cluster(["cluster=gpu", "cluster.num_workers=3"]).use_gpu
    monkeypatch.setenv("ARCORE_CLUSTER", "gpu")
    assert groups.load_cluster([]).use_gpu
    for given, message in (
        ("cluster=none", "unknown cluster 'none'"),
        ("cluster.workers=2", "unknown parameter of cluster 'workers'"),
        ("cluster.num_workers=two", "cluster.num_workers: expected an integer, got 'two'"),
    ):
        with pytest.raises(UserError, match=message):
            groups.load_cluster([given])


@pytest.mark.parametrize(
    ("overrides", "trained", "result"),
    [
        ((), "toy", "toy"),
        (("cluster=gpu", "cluster.num_workers=2"), "toy", "toy"),
        (("trainer.max_epochs=9",), "toy", "toy"),
        (("trainer.max_epochs=3",), "toy--trainer.max_epochs-3", "toy--trainer.max_epochs-3"),
        (("evaluation.seed=1",), "toy", "toy--evaluation.seed-1"),
        (("trainer.seed=1", "evaluation.seed=1"), "toy--trainer.seed-1",
         "toy--evaluation.seed-1-trainer.seed-1"),
        (("model=nade", "cluster=gpu"), "toy--model-nade", "toy--model-nade"),
    ],
)  # fmt: skip
def test_what_overrides_change_has_a_name_of_its_own(
    toy, overrides: tuple[str, ...], trained: str, result: str
) -> None:
    config = toy(*overrides, trainer={"max_epochs": 9})
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
def test_a_parameter_without_its_section_is_pointed_to(toy, override: str, meant: str) -> None:
    with pytest.raises(UserError) as caught:
        toy(override)
    assert meant in str(caught.value) and len(str(caught.value)) < 200


def test_of_many_experiments_the_three_nearest_are_named(workdir: Path) -> None:
    many = {f"digits-{number}-experiment": {"dataset": "digits"} for number in range(40)}
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": many}))
    with pytest.raises(UserError) as caught:
        compose.load("digits-7-experimnt")
    message = str(caught.value)
    assert "did you mean 'digits-7-experiment' or " in message and "(40 are known)" in message
    assert message.count("experiment'") == 3 and len(message) < 180
    text = params_file.listed("experiments")
    assert all(name in text for name in many) and "\ndigits\n" in text


def test_a_part_of_the_rows_decides_a_result_only_where_it_is_given(toy) -> None:
    whole, part = (toy(*given) for given in ([], ["trainer.train_rows=9"]))
    named = [config.to_dict()["trainer"].get("train_rows") for config in (whole, part)]
    assert named == [None, 9] and "train_rows" not in whole.to_dict()["trainer"]
    same = dataclasses.replace(part, trainer=whole.trainer)
    assert part.config_hash("a") != same.config_hash("a")
