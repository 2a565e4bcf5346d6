"""Classes by Bayes' rule, and hidden units as features, against the same by hand."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.uses import class_uses, use_context
from tests.support.refusals import refused


def test_accuracy_is_that_of_the_most_probable_class(project: Path) -> None:
    loaded = use_context.load("toy-gated_pixelcnn")
    found = class_uses.ClassPosteriors(num_shown=2).run(loaded, project)
    values = {number.name: number for number in found.numbers}
    rows, train = loaded.rows("test"), loaded.stored("train").whole().labels
    x, labels = rows.x, torch.from_numpy(rows.labels)
    with torch.no_grad():
        scored = [loaded.model.log_prob(x, torch.full((len(x),), c)) for c in range(10)]
    scored = torch.stack(scored, 1).double()
    prior = torch.from_numpy(np.bincount(train) / len(train)).log()
    right = ((scored + prior).argmax(1) == labels).double()
    assert values["accuracy"].value == pytest.approx(float(right.mean()))
    assert values["accuracy"].stderr == pytest.approx(
        float(right.std(correction=0)) / math.sqrt(len(right))
    )
    nats = -(scored + prior).log_softmax(1)[torch.arange(len(x)), labels]
    assert values["-ln p(class | x)"].value == pytest.approx(float(nats.mean()), rel=1e-6)
    assert 0 <= values["calibration error"].value <= 1
    with Image.open(project / "samples.png") as picture:
        assert picture.height > picture.width, "ten rows of two"


@pytest.mark.parametrize("name", ["toy-nade", "toy-made"])
def test_features_are_beside_pixels(project: Path, name: str) -> None:
    loaded = use_context.load(name)
    settings = class_uses.FeatureAccuracy(num_labels=[10, 200], num_repeats=2)
    found = {n.name: n.value for n in settings.run(loaded, project).numbers}
    pixels = "accuracy of pixels, {} labels"
    assert found[pixels.format(200)] > 0.75 > found[pixels.format(10)] > 0.2
    train, test = loaded.rows("train"), loaded.rows("test")
    by_hand = [
        class_uses.accuracy(
            train.x.flatten(1).double().numpy()[chosen], train.labels[chosen],
            test.x.flatten(1).double().numpy(), test.labels,
        )
        for chosen in (class_uses.balanced(train.labels, 200, 10, seed) for seed in (0, 1))
    ]  # fmt: skip
    assert found[pixels.format(200)] == pytest.approx(np.mean(by_hand))
    assert found["accuracy of hidden units, 200 labels"] != found[pixels.format(200)]
    assert (project / "accuracy.png").is_file()


def test_labels_are_balanced_and_drawn_by_the_seed() -> None:
    labels = np.arange(100) % 4
    first, again, other = (class_uses.balanced(labels, 20, 4, seed) for seed in (0, 0, 1))
    assert np.bincount(labels[first]).tolist() == [5, 5, 5, 5] and len(set(first)) == 20
    assert (first == again).all() and (first != other).any()
    for count, message in ((10, "multiples of 4 classes, got 10"), (200, "at most 100")):
        with refused(message):
            class_uses.balanced(labels, count, 4, 0)


def test_labels_that_are_no_classes_are_refused(project: Path, monkeypatch) -> None:
    loaded = use_context.load("toy-nade")
    manifest = dataclasses.replace(loaded.manifest, num_classes=None, condition_size=3)
    vectors = dataclasses.replace(loaded, manifest=manifest)
    rows = loaded.rows("test")
    given = dataclasses.replace(rows, labels=np.ones((len(rows), 3), np.float32))
    monkeypatch.setattr(use_context.UseContext, "rows", lambda *_: given)
    with refused("digits_binary: expected labels that are classes, found none"):
        class_uses.FeatureAccuracy().run(vectors, project)
