"""Records in `results/`: copies of what was measured, and tables drawn from them alone."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError
from pipeline.evaluation import identity
from pipeline.experiments import compose
from pipeline.reporting import comparison
from reproductions import results as stage
from reproductions.publishing import recorded, recording
from tests.support import reports


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["results", *arguments])
    stage.main()


def test_an_experiment_and_the_table_of_its_dataset(files, monkeypatch) -> None:
    files.manifest("dna", "dna")
    files.evaluated("dna", "dna-made", 82.0, device="cpu")
    files.evaluated("dna", "dna-nade", 81.0, device="cpu")
    run(monkeypatch, "--experiments", "dna-made", "dna-nade", "--datasets", "dna")
    kept = {"config.yaml", "training.json", "history.csv", "metrics.json"}
    for name in ("dna-made", "dna-nade"):
        assert {path.name for path in Path("results", name).iterdir()} == kept
        for path in Path("results", name).iterdir():
            source = "evaluation/dna" if path.name == "metrics.json" else "models"
            assert path.read_bytes() == Path(source, name, path.name).read_bytes()
    table = Path("results/dna.md").read_text()
    assert table == reports.markdown(comparison.build_report("dna"))
    for folder in ("models", "evaluation"):
        Path(folder).rename(f"{folder}-lost")
    Path("results/dna.md").unlink()
    run(monkeypatch, "--datasets", "dna")
    assert Path("results/dna.md").read_text() == table, "of the records alone"
    Path("results/dna-nade/metrics.json").unlink()
    run(monkeypatch, "--datasets", "dna")
    assert "dna-nade" not in Path("results/dna.md").read_text()


def test_folds_and_searches(home: Path, monkeypatch) -> None:
    wanted = {
        "evaluation/red_wine/wine-folds": ("config.yaml", "metrics.json", "folds.csv"),
        "searches/wine": ("search.json", "best.yaml", "trials.csv", "b.csv"),
    }
    for folder, names in wanted.items():
        Path(folder).mkdir(parents=True)
        for name in (*names, "other.txt"):
            Path(folder, name).write_text(name)
    search = Path("searches/wine")
    found = dict.fromkeys(("search", "dataset", "model", "commit"), "wine")
    found |= dict.fromkeys(("trials", "stopped", "failed", "best_trial"), 1)
    found |= {"best_valid_nats": 9.5, "default_valid_nats": None, "seconds": 1.0}
    search.joinpath("search.json").write_text(json.dumps(found))
    search.joinpath("trials.csv").write_text("trial,best_valid_nats\n1,9.500000\n")
    for fold in ("fold-0", "fold-1"):
        Path("evaluation/red_wine/wine-folds", fold).mkdir()
        Path("evaluation/red_wine/wine-folds", fold, "model.safetensors").write_bytes(b"weights")
    run(monkeypatch, "--folds", "wine", "--searches", "wine")
    for folder, names in zip(("wine-folds", "searches/wine"), wanted.values(), strict=True):
        kept = {path.name for path in Path("results", folder).iterdir() if path.is_file()}
        assert kept == set(names)
    assert Path("results/wine-folds/fold-1/model.safetensors").read_bytes() == b"weights"
    search.joinpath("trials.csv").write_text("trial,best_valid_nats\n1,9.000000\n")
    with pytest.raises(UserError, match=r"search\.json: expected the record of trials\.csv"):
        recording.record_search("wine")
    monkeypatch.setattr(recording, "MOST_WEIGHTS", 13)
    recording.record_folds("wine")
    assert not Path("results/wine-folds/fold-0").exists(), "too large together"


def test_what_is_missing_is_named_and_leaves_the_old_record(files, monkeypatch) -> None:
    with pytest.raises(UserError, match=r"evaluation/\*/toy: expected one evaluation, got none"):
        recording.record_experiment("toy")
    files.evaluated("dna", "toy", 82.0)
    recording.record_experiment("toy")
    Path("models/toy/history.csv").unlink()
    with pytest.raises(UserError, match="models/toy/history.csv: missing"):
        recording.record_experiment("toy")
    assert Path("results/toy/history.csv").is_file()
    Path("evaluation/other/toy").mkdir(parents=True)
    with pytest.raises(UserError, match="expected one evaluation, got dna, other"):
        recording.record_experiment("toy")
    with pytest.raises(UserError, match=r"results/nips-\*: no record of an experiment"):
        recording.record_table("nips")
    with pytest.raises(SystemExit):
        run(monkeypatch, "--experiments")


def test_numbers_of_other_weights_are_not_recorded(files) -> None:
    files.evaluated("dna", "dna-made", 82.0)
    model, metrics = Path("models/dna-made"), Path("evaluation/dna/dna-made/metrics.json")
    (model / "model.safetensors").write_bytes(b"trained again since")
    (model / "config.json").write_text("{}")
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"weights_sha256": "0" * 64}))
    with pytest.raises(UserError, match="expected an output of models/dna-made .*stages.evaluate"):
        recording.record_experiment("dna-made")
    assert not Path("results/dna-made").exists()


def test_a_stale_result_is_not_recorded(files) -> None:
    files.manifest("dna", "dna")
    entry = {"dataset": "dna", "model": "made"}
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": {"dna-made": entry}}))
    described = {"entry_sha256": identity.entry_sha256("dna-made")}
    described |= {"config_sha256": identity.config_sha256(compose.load("dna-made"))}
    path = files.evaluated("dna", "dna-made", 82.0, **described)
    recording.record_experiment("dna-made")
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"dataset_sha256": "0" * 64}))
    with pytest.raises(UserError, match="expected an output of data/shards/dna as it is"):
        recording.record_experiment("dna-made")
    path.write_text(json.dumps(result))
    entry["trainer"] = {"max_epochs": 3}
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": {"dna-made": entry}}))
    with pytest.raises(UserError, match="expected a result of the experiment as params.yaml has"):
        recording.record_experiment("dna-made")
    assert json.loads(Path("results/dna-made/metrics.json").read_text()) == result


def test_what_was_altered_is_not_recorded(files) -> None:
    files.evaluated("dna", "dna-made", 82.0)
    history = Path("models/dna-made/history.csv")
    sealed = {"inputs": {}, "files": {history.name: sha256_of(history)}}
    history.with_name("artifact.json").write_text(json.dumps(sealed))
    recording.record_experiment("dna-made")
    history.write_text(history.read_text().replace("9.5", "9.4"))
    with pytest.raises(UserError, match="history.csv: expected the file that was written"):
        recording.record_experiment("dna-made")
    assert "9.5" in Path("results/dna-made/history.csv").read_text()


def test_a_table_is_of_one_version_of_the_data(files) -> None:
    files.manifest("dna", "dna")
    for name in ("dna-made", "dna-nade"):
        files.evaluated("dna", name, 82.0, device="cpu")
        recording.record_experiment(name)
    recording.record_table("dna")
    for name, sha256 in (("dna-made", files.sha256("dna")), ("dna-nade", "f" * 64)):
        config = Path("results", name, "config.yaml")
        described = yaml.safe_load(config.read_text()) | {"dataset_sha256": sha256}
        config.write_text(yaml.safe_dump(described))
    with pytest.raises(UserError, match="dna: .* different versions of the data"):
        recording.record_table("dna")


def test_codecs_that_do_not_fit_do_not_replace_those_kept(files, monkeypatch) -> None:
    files.manifest("dna", "dna")
    files.evaluated("dna", "dna-made", 82.0, device="cpu")
    files.codecs("dna", ("zstd (measured here)", 90.0))
    run(monkeypatch, "--experiments", "dna-made", "--datasets", "dna")
    kept = Path("results/codecs/dna.json")
    before = kept.read_text()
    Path("codecs/dna/codecs.json").write_text("{")
    with pytest.raises(UserError, match="codecs/dna/codecs.json"):
        run(monkeypatch, "--datasets", "dna")
    assert kept.read_text() == before


def test_embedded_data_that_are_not_named_keep_their_lines(files) -> None:
    for dataset in ("dna", "nips", "toy"):
        files.manifest(dataset)
        files.evaluated(dataset, f"{dataset}-made", 82.0)
    path = recording.record_embedded(["dna", "nips"])
    before = recorded.read_lines(path)
    metrics = Path("evaluation/dna/dna-made/metrics.json")
    changed = json.loads(metrics.read_text()) | {"valid_nats": 80.0, "num_members": 3}
    metrics.write_text(json.dumps(changed))
    recording.record_embedded(["toy", "dna"])
    dna, nips, toy = recorded.read_lines(path)
    assert (before[0].members, dna.members, toy.experiment) == ("one", "ensemble of 3", "toy-made")
    assert nips == before[1]
