"""Memorisation and what a model learned."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import arcore
from pipeline.uses import learned_filters, sample_checks, use_context


@pytest.mark.parametrize("block", [7, 4096])
def test_the_nearest_row_is_found_and_a_copy_is_told(block: int, monkeypatch) -> None:
    monkeypatch.setattr(sample_checks, "BLOCK", block)
    known = torch.rand(50, 9, dtype=torch.float64)
    x = torch.cat([torch.rand(4, 9, dtype=torch.float64), known[[7, 3]]])
    distances, rows = sample_checks.nearest(x, known)
    every = (x[:, None] - known[None]).square().sum(-1).sqrt()
    torch.testing.assert_close(distances, every.min(1).values)
    assert torch.equal(rows, every.argmin(1)) and rows[4:].tolist() == [7, 3]
    assert distances[4:].tolist() == [0, 0], "exactly, not up to rounding"


@pytest.mark.parametrize("name", ["toy-nade", "toy-gated_pixelcnn", "toy-pixelvae"])
def test_distances_and_nats_are_those_of_the_rows(project: Path, name: str) -> None:
    loaded = use_context.load(name)
    settings = sample_checks.Memorisation(num_samples=20, num_shown=4, num_train=100)
    outcome = settings.run(loaded, project)
    found = {number.name: number.value for number in outcome.numbers}
    errors = {number.name: number.stderr for number in outcome.numbers}
    assert errors["validation above training images"] == pytest.approx(
        math.hypot(errors["training images"], errors["validation images"])
    )
    assert ("The model only bounds p" in outcome.notes) == (not loaded.model.exact)
    train, test = loaded.rows("train", 100), loaded.rows("test", 20)
    apart = test.x.double()[:, None] - train.x.double()[None]
    every = apart.flatten(2).square().sum(-1).sqrt()
    assert found["distance of a test image to it"] == pytest.approx(float(every.min(1)[0].mean()))
    if loaded.model.exact:
        with torch.no_grad():
            rows = (train, loaded.rows("valid", 100))
            scored = [loaded.model.log_prob(r.x, r.condition) for r in rows]
        nats = [-one.double().mean() for one in scored]
        assert found["training images"] == pytest.approx(float(nats[0]), rel=1e-5)
        assert found["validation above training images"] == pytest.approx(
            float(nats[1] - nats[0]), abs=1e-3
        )
    assert found["samples that are training images"] == 0
    assert (project / "nearest.png").is_file() and (project / "distances.png").is_file()


def test_training_rows_are_those_that_were_learned_from(project: Path) -> None:
    loaded = use_context.load("toy-gated_pixelcnn")
    everything = loaded.learned_labels()
    assert everything is not None and len(everything) == len(loaded.rows("train")) == 1257
    trainer = loaded.trained.content["trainer"] | {"train_rows": 200}
    content = dict(loaded.trained.content) | {"trainer": trainer}
    few = replace(loaded, trained=replace(loaded.trained, content=content))
    labels = few.learned_labels()
    assert labels is not None and labels.tolist() == everything[:200].tolist()
    assert few.rows("train").numbers.tolist() == list(range(200))
    assert few.rows("train", 50).numbers.max() < 200 <= len(few.rows("test"))


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("toy-nade", ["filters.png", "probabilities.png"]),
        ("toy-made", ["filters.png", "probabilities.png"]),
        ("toy-gated_pixelcnn", ["probabilities.png"]),
    ],
)
def test_what_there_is_to_see_is_drawn(project: Path, name: str, files: list[str]) -> None:
    outcome = learned_filters.LearnedFilters(num_units=12).run(use_context.load(name), project)
    assert [shown.file for shown in outcome.shown] == files
    for file in files:
        with Image.open(project / file) as picture:
            assert picture.width > 200
    assert len(outcome.numbers) == 2


def test_many_levels_have_a_softmax(project: Path) -> None:
    loaded = use_context.load("toy-nade")
    model = arcore.create_model("nade", arcore.events.Levels(5, (1, 8, 8)), hidden=3)
    x = torch.randint(5, (2, 1, 8, 8))
    logits = learned_filters._log_levels(model, x, None)
    assert logits.shape == (2, 1, 8, 8, 5)
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(2, 1, 8, 8).double())
    figure = learned_filters._softmax(logits, x, model.event)
    bars = figure.axes[1].patches
    expected = logits[0, 0, 2, 4].exp()
    assert [bar.get_height() for bar in bars] == pytest.approx(expected.tolist())
    bits = learned_filters._log_levels(loaded.model, x.clamp(max=1), None)
    white = loaded.model.conditionals(x.clamp(max=1)).probs.double()
    torch.testing.assert_close(bits[..., 1].exp(), white, atol=1e-6, rtol=0)
