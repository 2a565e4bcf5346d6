"""Structure of samples, and ensembles of more and more orderings."""

import dataclasses
from pathlib import Path

import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.data import shard_reader
from pipeline.evaluation import scoring
from pipeline.evaluation.scoring import ChosenRows
from pipeline.uses import comparisons, run_uses, sample_checks, use_context, use_records
from tests.support.uses import list_uses


def test_pairs_are_as_far_apart_as_their_pixels() -> None:
    apart = sample_checks.pairs_apart(3, 4)
    assert apart.shape == (12, 12) and torch.equal(apart, apart.T)
    assert apart[0, 11] == pytest.approx((2**2 + 3**2) ** 0.5) and apart[5, 6] == 1


def test_structure_is_what_chance_leaves_where_rows_are_the_test_rows(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = use_context.load("toy-nade")
    test = loaded.rows("test", 360)
    monkeypatch.setattr(loaded.model, "sample", lambda count, *_, **__: test.x[:count])
    settings = sample_checks.PixelStructure(num_samples=360, near=1, far=5)
    found = {n.name: n.value for n in settings.run(loaded, project).numbers}
    assert found["near pairs off, samples"] == 0
    assert found["far pairs off, samples"] == 0
    assert found["brightness of samples"] == found["brightness of test images"]
    train = loaded.rows("train", 360).x.double()
    off = (torch.cov(train.flatten(1).T) - torch.cov(test.x.double().flatten(1).T)).square()
    near = [off[row, row + 1] for row in range(63) if row % 8 != 7]
    near += [off[row, row + 8] for row in range(56)]
    wanted = 1000 * float(torch.stack(near).mean().sqrt())
    assert found["near pairs off, training images"] == pytest.approx(wanted)


def test_pairs_too_far_apart_are_refused(project: Path) -> None:
    with pytest.raises(UserError, match=r"far: expected at most 9\.9, got 14"):
        sample_checks.PixelStructure().run(use_context.load("toy-nade"), project)
    with pytest.raises(UserError, match="far: expected a number > near, 3, got 2"):
        sample_checks.PixelStructure(far=2)


def test_models_of_other_data_are_not_compared(project: Path) -> None:
    loaded = use_context.load("toy-nade")
    other = dataclasses.replace(loaded, manifest=dataclasses.replace(loaded.manifest, sha256="0"))
    with pytest.raises(UserError, match="toy-made: expected a model of digits_binary, as of toy"):
        comparisons.PairedDifferences(others=["toy-made"]).run(other, project)
    with pytest.raises(UserError, match="others: expected an experiment or more, got"):
        comparisons.PairedDifferences(others=[])
    for others in (["toy-nade"], ["toy-made", "toy-made"]):
        with pytest.raises(UserError, match="others: expected different experiments, none of them"):
            comparisons.PairedDifferences(others=others).run(loaded, project)


def test_what_is_compared_is_part_of_the_record(project: Path) -> None:
    list_uses(nade={"paired": {"others": ["toy-made"], "num_rows": 50}})
    run_uses.run("all", "toy-nade")
    loaded, other = use_context.load("toy-nade"), use_context.load("toy-made")
    (found,) = [one for one, _ in use_records.read_all("digits_binary", loaded.manifest.sha256)]
    assert found.others == {"toy-made": other.trained.weights_sha256}
    rows = ChosenRows.of(loaded.stored("test"), 9, 50)
    theirs, ours = (scoring.scores(m, rows) for m in (other.model, loaded.model))
    gain = found.numbers[0]
    assert (gain.name, gain.unit) == ("over toy-made: gain", "nats")
    assert gain.value == pytest.approx(float((theirs - ours).mean()), rel=1e-5)
    Path("results").mkdir()
    Path("models/toy-made").rename("results/toy-made")
    assert len(use_records.read_all("digits_binary", loaded.manifest.sha256)) == 1
    weights = Path("results/toy-made/model.safetensors")
    weights.write_bytes(weights.read_bytes() + b" ")
    assert use_records.read_all("digits_binary", loaded.manifest.sha256) == []


def test_orderings_are_the_first_of_the_ensemble(project: Path) -> None:
    loaded = use_context.load("toy-made")
    outcome = comparisons.OrderingEnsembles(most=6, num_rows=40).run(loaded, project)
    found = {number.name: number for number in outcome.numbers}
    assert list(found)[::2] == [
        "1 ordering: nats", "2 orderings: nats", "4 orderings: nats", "6 orderings: nats"
    ]  # fmt: skip
    test = shard_reader.read_split(Path("data/shards/digits_binary"), "test")
    rows = loaded.rows("test", 40).numbers
    for count in (2, 4, 6):
        nats = scoring.scores(loaded.model.ensemble(count), ChosenRows(test, rows, 500))
        mean, error = scoring.mean_and_error(nats)
        assert found[f"{count} orderings: nats"].value == pytest.approx(mean, abs=1e-6)
        assert found[f"{count} orderings: nats"].stderr == pytest.approx(error, abs=1e-6)
    above = found["1 ordering: above 6"].value
    assert above == pytest.approx(found["1 ordering: nats"].value - mean, abs=1e-6) and above > 0
    assert (project / "nats.png").is_file()
    loaded.model.hyperparameters = dataclasses.replace(
        loaded.model.hyperparameters, order_agnostic=False
    )
    with pytest.raises(UserError, match="expected MADE with an ordering for each mask, got made"):
        comparisons.OrderingEnsembles(most=6).run(loaded, project)
