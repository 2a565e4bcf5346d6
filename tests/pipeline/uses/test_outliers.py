"""Real images against others: the kinds, the scores and how well they tell."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from arcore.events import Levels
from arcore.inference import Threshold
from pipeline.uses import outliers, run_uses, use_context, use_records
from tests.support.other_shards import write_black
from tests.support.uses import list_uses


def test_the_area_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    real, other = generator.integers(0, 9, 50) * 1.0, generator.integers(2, 12, 70) * 1.0
    labels = np.repeat([0, 1], [50, 70])
    area, error = outliers.auc(real, other)
    assert area == pytest.approx(roc_auc_score(labels, np.concatenate([real, other])))
    assert error == pytest.approx(0.04, abs=0.02)
    drawn = [
        outliers.auc(generator.normal(size=40), generator.normal(0.5, size=40)) for _ in range(400)
    ]
    spread = float(np.std([area for area, _ in drawn]))
    assert np.mean([error for _, error in drawn]) == pytest.approx(spread, rel=0.15)


def test_of_pairs_the_error_is_that_of_what_differs_in_them() -> None:
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        real = generator.normal(size=100)
        other = real + generator.normal(0.1, 0.2, size=100)
        drawn.append([*outliers.auc(real, other, paired=True), outliers.auc(real, other)[1]])
    areas, paired, apart = np.array(drawn).T
    assert paired.mean() == pytest.approx(areas.std(), rel=0.15) and apart.mean() > 2 * areas.std()


def test_kinds_are_what_they_are_called() -> None:
    event = Levels(4, (3, 5, 5))
    x = torch.randint(4, (6, 3, 5, 5), generator=torch.Generator().manual_seed(0))
    kinds = outliers.others(x, event, 0)
    assert all(kind.shape == x.shape for kind in kinds.values())
    assert torch.equal(kinds["mirrored"].flip(3), x)
    assert bool((kinds["one colour"] == kinds["one colour"][..., :1, :1]).all())
    shuffled = kinds["shuffled pixels"].flatten(2).transpose(1, 2)
    for before, after in zip(x.flatten(2).transpose(1, 2), shuffled, strict=True):
        assert sorted(before.tolist()) == sorted(after.tolist()) and not torch.equal(before, after)


def test_numbers_are_of_both_scores(project: Path) -> None:
    loaded = use_context.load("toy-nade")
    settings = outliers.Outliers(num_rows=40, num_shown=3, other="digits_binary", seed=2)
    found = {number.name: number.value for number in settings.run(loaded, project).numbers}
    assert len(found) == 2 * (5 + 1 + 6)
    limit = -Threshold.fit(-loaded.nats(loaded.rows("valid").x) / math.log(2)).score
    assert found["threshold of -log2 p(x)"] == pytest.approx(limit)
    assert found["share above the threshold of -log2 p(x), uniform noise"] > 0.8
    assert found["AUC of -log2 p(x), uniform noise"] > 0.9
    assert found["AUC of -log2 p(x), digits_binary, test images"] == 0.5, "the same rows"
    x = loaded.rows("test", 40, 2).x
    bits = -loaded.model.log_prob(x).detach().double().numpy() / math.log(2)
    other = -loaded.model.log_prob(x.flip(3)).detach().double().numpy() / math.log(2)
    assert found["AUC of -log2 p(x), mirrored"] == pytest.approx(outliers.auc(bits, other)[0])
    lengths = [outliers.complexity(one.numpy().astype(np.uint8), loaded.images)
               for one in (x, x.flip(3))]  # fmt: skip
    corrected = outliers.auc(bits - lengths[0], other - lengths[1])[0]
    assert found["AUC of -log2 p(x) - L(x), mirrored"] == pytest.approx(corrected)
    assert (project / "images.png").is_file() and (project / "scores.png").is_file()


def test_another_dataset_is_part_of_the_record(project: Path) -> None:
    shutil.copytree("data/shards/digits_binary", "data/shards/twin")
    list_uses(nade={"outliers": {"num_rows": 8, "num_shown": 1, "other": "twin"}})
    run_uses.run("all", "toy-nade")
    sha256 = use_context.load("toy-nade").manifest.sha256
    ((found, _),) = use_records.read_all("digits_binary", sha256)
    assert found.other_datasets == {"twin": sha256}
    write_black(Path("data/shards/twin"))
    assert use_records.read_all("digits_binary", sha256) == []
