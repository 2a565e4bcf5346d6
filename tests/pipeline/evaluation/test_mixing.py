"""Mixtures of experiments: composed, mixed, evaluated, registered, and what is refused."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

import arcore
from pipeline.artifacts import writer
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data import shard_reader
from pipeline.evaluation import (
    experiment_evaluation,
    identity,
    mixing,
    reading,
    scoring,
)
from pipeline.evaluation.result_records import Result
from pipeline.evaluation.scoring import ChosenRows
from pipeline.experiments import compose, layout, params_file
from pipeline.experiments.schema import EvaluationConfig
from pipeline.reporting import wording
from pipeline.tracking import mlflow_store
from pipeline.training import driver, saved_models
from stages import folds, join, mix, train
from tests.support.refusals import raising

TRAINER = {"max_epochs": 2, "batch_size": 100, "optimizer": {"learning_rate": 0.01}}
ENTRIES = {
    "masks": {
        "dataset": "digits_binary",
        "model": "made",
        "model_overrides": {"hidden": [30], "num_masks": 2},
        "trainer": TRAINER,
        "evaluation": {"num_members": None},
    },
    "sums": {
        "dataset": "digits_binary",
        "model": "nade",
        "model_overrides": {"hidden": 8},
        "trainer": TRAINER,
    },
}
CPU = torch.device("cpu")
HEADER_BYTES = 140
ENTRIES["rows"] = ENTRIES["masks"] | {"model_overrides": {"hidden": [30]}, "evaluation": {}}
POOL = {
    "dataset": "digits_binary",
    "mixture": ["sums", "rows"],
    "pooled": True,
    "evaluation": {"coded": True},
}
MIXTURE = {"dataset": "digits_binary", "mixture": ["masks", "sums"], "evaluation": {}}
MIRRORED = MIXTURE | {"mixture": ["masks"], "symmetries": ["identity", "mirror"]}


def write_params(experiments: dict[str, object] | None = None, **mixtures: object) -> None:
    """Write the entries and others, or others of their names."""
    params = {
        "experiments": ENTRIES | (experiments or {}),
        "mixtures": {"both": MIXTURE, "product": POOL, "mirrored": MIRRORED} | mixtures,
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture(autouse=True)
def entries(mixed: Path) -> Iterator[None]:
    """The entries that a test writes are gone after it, however it ends."""
    yield
    write_params()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, few_digits: Path):
    """A working directory with three experiments: two mixed, two pooled, and evaluated."""
    folder = tmp_path_factory.mktemp("mixed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ARCORE_HOME", str(folder))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        write_params()
        shutil.copytree(few_digits, "data/shards/digits_binary")
        for name in ENTRIES:
            driver.train(compose.load(name, ["cluster.cpus_per_worker=1"]))
        for name in ("mirrored", "both", "product"):
            mixing.mix(compose.load_mixture(name))
        for name in ("both", "product"):
            experiment_evaluation.evaluate(compose.load(name))
        yield folder


def test_it_is_mixed_by_command_lines(mixed: Path, monkeypatch, caplog) -> None:
    before = Path("models/both/model.safetensors").read_bytes()
    for member in MIXTURE["mixture"]:
        joined = Path("mixtures/both") / member
        shutil.rmtree(joined, ignore_errors=True)
        monkeypatch.setattr("sys.argv", ["join", "both", member])
        join.main()
        assert joined.is_dir()
    shutil.rmtree("models/both")
    Path("mixtures/both/sums/training.json").unlink()  # as DVC restores the folder
    monkeypatch.setattr("sys.argv", ["mix", "both"])
    mix.main()
    assert Path("models/both/model.safetensors").read_bytes() == before
    assert "sums: its training's seconds are not recorded, nor counted" in caplog.text
    mixing.join(compose.load_mixture("both"), "sums")
    mixing.mix(compose.load_mixture("both"))


@pytest.mark.parametrize(
    ("stage", "section", "name"),
    [(mix, "mixtures", "both"), (train, "experiments", "sums"), (folds, "folds", None)],
)
def test_a_command_line_without_a_name_lists_entries(
    stage: ModuleType, section: str, name: str | None, mixed: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("sys.argv", [stage.__name__])
    if name is None:
        with pytest.raises(UserError, match=f"expected an entry of {section}, found none"):
            stage.main()
    else:
        with pytest.raises(SystemExit) as ended:
            stage.main()
        assert ended.value.code is None
        said = capsys.readouterr().out
        assert said.startswith(f"{section} of params.yaml") and name in said.split()


def test_it_is_a_model_of_its_members(mixed: Path) -> None:
    trained = saved_models.load("both")
    parts = [saved_models.load(name) for name in MIXTURE["mixture"]]
    shards = paths.shards("digits_binary")
    rows = torch.from_numpy(shard_reader.read_split(shards, "test").x[:50])
    made, nade = (part.model for part in parts)
    each = torch.stack([made.ensemble(2).log_prob(rows), nade.log_prob(rows)], 1)
    weights = trained.model.weights
    torch.testing.assert_close(
        trained.model.log_prob(rows), (each + weights.log()).logsumexp(1), rtol=1e-5, atol=1e-5
    )
    assert torch.equal(arcore.load("models/both").weights, weights)
    assert trained.record.train_seconds >= sum(part.record.train_seconds for part in parts)


@pytest.mark.parametrize("names", [["masks", "sums"], ["masks", "masks mirror"]])
def test_its_weights_do_best_on_the_validation_rows(names: list[str], mixed: Path) -> None:
    trained = saved_models.load("both" if "sums" in names else "mirrored")
    model = trained.model
    assert list(trained.content["weights"]) == names
    rows = ChosenRows.of(shard_reader.read_split(paths.shards("digits_binary"), "valid"), 500)
    each = torch.stack([scoring.scores(member, rows) for member in model], 1)
    best = scoring.scores(model, rows).mean()
    assert best <= each.mean(0).min() + 1e-4
    for share in torch.linspace(0.01, 0.99, 50):
        other = -torch.logsumexp(-each + torch.stack([share, 1 - share]).log(), 1).mean()
        assert best <= other + 1e-4


def test_a_pool_is_one_model_whose_weights_do_best_on_the_validation_rows(mixed: Path) -> None:
    pool = saved_models.load("product").model
    assert isinstance(pool, arcore.Pool)
    members = [saved_models.load(name).model for name in POOL["mixture"]]
    rows = ChosenRows.of(shard_reader.read_split(paths.shards("digits_binary"), "valid"), 500)
    best = scoring.scores(pool, rows).mean()
    single = [scoring.scores(member, rows).mean() for member in members]
    assert best <= min(single) + 1e-4
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        weights = (pool.weights + 0.2 * torch.randn(2, generator=generator)).clamp_min(0)
        assert best <= scoring.scores(arcore.Pool(members, weights), rows).mean() + 1e-4


def test_a_pool_is_coded_and_reported(mixed: Path) -> None:
    _, row = reading.read_results("digits_binary")
    assert (row.result.model, wording.members(row.result)) == ("pool", "pool")
    said = wording.settings(row)
    assert all(f"{name}^{weight:.3f}" in said for name, weight in row.config.weights.items())
    history = Path("models/product/history.csv").read_text().splitlines()
    assert float(history[-1].split(",")[-2]) == pytest.approx(row.result.valid_nats, abs=1e-3)
    ideal = row.result.score.nats * row.result.num_rows / math.log(2) / 8
    assert ideal < row.result.coded.coded_bytes < ideal * 1.01 + HEADER_BYTES


def test_a_pool_of_other_orderings_is_refused_before_anything_is_scored(mixed: Path) -> None:
    backwards = ENTRIES["sums"] | {"model_overrides": {"hidden": 8, "ordering": "reverse"}}
    write_params({"backwards": backwards}, odd=POOL | {"mixture": ["sums", "backwards"]})
    for call in (mixing.mix, lambda config: mixing.join(config, "sums")):
        with pytest.raises(UserError, match="members: expected models of one schedule"):
            call(compose.load_mixture("odd"))
    assert not Path("mixtures/odd").exists()


def test_a_pool_of_many_levels_is_fitted_to_some_rows(mixed: Path, monkeypatch, caplog) -> None:
    models = [saved_models.load(name).model for name in POOL["mixture"]]
    valid = shard_reader.read_split(paths.shards("digits_binary"), "valid")
    plan = EvaluationConfig()
    whole, _ = mixing.fit_shares(models, valid, plan, CPU)
    monkeypatch.setattr(mixing, "AT_ONCE", 7 * 64 * 2 * 2)
    in_parts, _ = mixing.fit_shares(models, valid, plan, CPU)
    torch.testing.assert_close(in_parts, whole)
    monkeypatch.setattr(mixing, "NUMBERS", 10 * 64 * 2 * 2)
    with caplog.at_level("INFO"):
        some, _ = mixing.fit_shares(models, valid, plan, CPU)
    assert f"fitted to 10 of {len(valid)} validation rows" in caplog.text
    assert not torch.equal(some, whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_overrides": {"hidden": 9}}, "models/sums: model.hidden: expected 9 as the"),
        ({"trainer": TRAINER | {"max_epochs": 3}}, "models/sums: trainer.max_epochs: expected 3"),
    ],
)
def test_a_member_of_another_entry_is_refused(mixed: Path, change: dict, message: str) -> None:
    write_params({"sums": ENTRIES["sums"] | change})
    with pytest.raises(UserError, match=f"^{message}"):
        mixing.mix(compose.load_mixture("both"))


def test_a_mixture_of_a_member_that_was_trained_again_since_is_refused(mixed: Path) -> None:
    weights = Path("models/sums/model.safetensors")
    before = weights.read_bytes()
    entry = ENTRIES["sums"] | {"trainer": TRAINER | {"max_epochs": 3}}
    try:
        weights.write_bytes(before + b" ")
        with pytest.raises(UserError, match="^models/both: expected a mixture of models/sums as"):
            experiment_evaluation.evaluate(compose.load("both"))
    finally:
        weights.write_bytes(before)
    result = Result.read(Path("evaluation/digits_binary/both"))
    identity.Entries.read().check(result)
    write_params({"sums": entry})
    with pytest.raises(UserError, match="both: expected a result of the experiment as params.yam"):
        identity.Entries.read().check(result)


def test_a_member_that_is_not_trained_is_named(mixed: Path) -> None:
    shutil.move("models/sums", "models/elsewhere")
    shutil.move("mixtures/both/sums", "mixtures/elsewhere")
    try:
        with pytest.raises(UserError, match="expected the trained model of 'sums', found none"):
            mixing.mix(compose.load_mixture("both"))
    finally:
        shutil.rmtree("mixtures/both/sums", ignore_errors=True)
        shutil.move("mixtures/elsewhere", "mixtures/both/sums")
        shutil.move("models/elsewhere", "models/sums")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"mixture": []}, "mixtures.odd.mixture: expected a list of different experiments"),
        ({"mixture": ["masks"] * 2}, "mixtures.odd.mixture: expected a list of different"),
        ({"mixture": ["masks", "sum"]}, "unknown experiment 'sum'.*'sums'"),
        ({"dataset": "digits"}, "mixtures.odd.mixture: masks: expected an experiment on 'digits'"),
        ({"pooled": "yes"}, "mixtures.odd.pooled: expected true or false, got 'yes'"),
        ({"symmetries": "mirror"}, "symmetries: expected different ones of identity, .*'mirror'"),
        ({"symmetries": [], "pooled": True}, "symmetries: expected none of a pool"),
        ({"model": "made"}, "unknown key of mixtures.odd 'model'"),
        ({"evaluation": {"num_sample": 3}}, "num_sample"),
    ],
)
def test_bad_entries_are_named(mixed: Path, change: dict[str, object], parts: str) -> None:
    write_params(odd=MIXTURE | change)
    with pytest.raises(UserError, match=parts):
        mixing.mix(compose.load("odd"))


def test_params_get_a_row_for_each_member() -> None:
    text = yaml.safe_dump({"experiments": ENTRIES, "mixtures": {"both": MIXTURE}})
    rows = yaml.safe_load(layout.foreach_of(text))["joins"]
    assert rows == {
        f"both_{name}": {"mixture": "both", "experiment": name, "dataset": "digits_binary",
                         "model": ENTRIES[name]["model"]}
        for name in MIXTURE["mixture"]
    }  # fmt: skip
    fewer = {"experiments": ENTRIES, "mixtures": {"both": MIRRORED}}
    again = yaml.safe_load(layout.foreach_of(yaml.safe_dump(fewer)))["joins"]
    assert again == {"both_masks": rows["both_masks"] | {"symmetries": ["identity", "mirror"]}}
    unknown = {"experiments": {"masks": ENTRIES["masks"]}, "mixtures": {"both": MIXTURE}}
    with pytest.raises(UserError, match="mixtures.both.mixture: sums: expected an experiment"):
        layout.foreach_of(yaml.safe_dump(unknown))
    fewer["mixtures"] = {"both": MIRRORED | {"symmetries": 3}}
    with pytest.raises(UserError, match="mixtures.both.symmetries: expected a list, got 3"):
        layout.foreach_of(yaml.safe_dump(fewer))


def test_a_member_that_was_trained_again_joins_again(mixed: Path) -> None:
    joined = mixing.join(compose.load_mixture("both"), "sums")
    before = (joined / "valid.csv").read_bytes()
    (joined / "valid.csv").write_text("nats\n" + "1.0\n" * len(before.splitlines()[1:]))
    weights = joined / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    mixing.mix(compose.load_mixture("both"))
    assert (joined / "valid.csv").read_bytes() == before
    (joined / "valid.csv").write_bytes(b"\xff\xfe\x00")
    mixing.mix(compose.load_mixture("both"))
    assert (joined / "valid.csv").read_bytes() == before


def test_a_member_under_other_masks_joins_again(mixed: Path) -> None:
    scores = Path("mixtures/both/masks/valid.csv")
    before = scores.read_text()
    assert before.startswith("nats_of_2\n")
    write_params({"masks": ENTRIES["masks"] | {"evaluation": {"num_members": 1}}})
    mixing.mix(compose.load_mixture("both"))
    assert scores.read_text().startswith("nats\n")
    write_params()
    mixing.mix(compose.load_mixture("both"))
    assert scores.read_text() == before


def test_it_is_mixed_and_not_trained(mixed: Path) -> None:
    both = compose.load("both")
    with pytest.raises(UserError, match="experiment: expected an experiment .*stages.mix both"):
        driver.train(both)
    folder = paths.model("both")
    written = {name: (folder / name).read_text() for name in ("config.yaml", "artifact.json")}
    described = yaml.safe_load(written["config.yaml"])
    del described["weights"]
    (folder / "config.yaml").write_text(yaml.safe_dump(described))
    try:
        with pytest.raises(UserError, match="config.yaml: expected the file that was written"):
            experiment_evaluation.evaluate(both)
        (folder / "artifact.json").unlink()  # as another version left it
        with pytest.raises(UserError, match="expected weights fitted by stages.mix; run python -m"):
            experiment_evaluation.evaluate(both)
    finally:
        for name, content in written.items():
            (folder / name).write_text(content)
    assert params_file.stages_of("both") == ("mix",)
    assert params_file.stages_of("sums") == ("train", "evaluate")


def test_a_mixing_after_one_that_failed_has_its_own_weights(mixed: Path, monkeypatch) -> None:
    mixing.mix(compose.load_mixture("both"))  # leaves no unfinished run of another test
    with monkeypatch.context() as failing, pytest.raises(UserError, match="s3://b"):
        failing.setattr(writer, "publish", raising(UserError("s3://b: cannot write")))
        failing.setattr(mixing, "fit_weights", lambda _: (torch.tensor([0.25, 0.75]), [9.0, 9.0]))
        mixing.mix(compose.load_mixture("both"))
    mixing.mix(compose.load_mixture("both"))
    trained = saved_models.load("both")
    assert trained.record is not None and trained.record.run_id is not None
    params = mlflow_store.client().get_run(trained.record.run_id).data.params
    logged = [float(params[f"weight {name}"]) for name in MIXTURE["mixture"]]
    assert logged == pytest.approx(trained.model.weights.tolist(), abs=1e-6)
    assert logged != [0.25, 0.75]


def test_a_member_with_latents_is_mixed(mixed: Path) -> None:
    vae = {
        "dataset": "digits_binary",
        "model": "pixelvae",
        "model_overrides": {"width": 4, "num_layers": 1, "latent_size": 2},
        "trainer": TRAINER,
    }
    write_params({"vae": vae}, bounded=MIXTURE | {"mixture": ["vae", "sums"]})
    driver.train(compose.load("vae", ["cluster.cpus_per_worker=1"]))
    mixing.mix(compose.load_mixture("bounded"))
    found = Result.read(experiment_evaluation.evaluate(compose.load("bounded")))
    assert not found.exact and found.importance is None and found.bound is None
    assert json.loads(Path("metrics/bounded.json").read_text())["relation"] == "at most"
