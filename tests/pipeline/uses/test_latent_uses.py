"""Uses of latents: what levels of noise change, and walks between images."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import arcore
from arcore.inference import latent_levels
from pipeline.datasets.read_transforms import permute_rows
from pipeline.uses import latent_uses, use_context
from pipeline.uses.use_context import ModelRows


def test_effects_are_those_of_what_is_drawn(project: Path) -> None:
    loaded = use_context.load("toy-pixelvae")
    settings = latent_uses.NoiseLevels(num_shared=2, num_varied=5, num_columns=3)
    outcome = settings.run(loaded, project)
    found = {number.name: number for number in outcome.numbers}
    rows, model = loaded.rows("test"), loaded.model
    terms = latent_levels.bound_terms(model, rows.x).double().mean(0)
    names = ["top: KL", "latent: KL", "pixels: -ln p(x | z)"]
    assert [found[name].value for name in names] == pytest.approx(terms.tolist(), rel=1e-5)
    nats = -model.log_prob(rows.x).detach().double().mean()
    assert sum(found[name].value for name in names) == pytest.approx(float(nats), rel=1e-5)
    units = latent_levels.active_units(model, rows.x)
    assert [found[f"{name}: units in use"].value for name in ("top", "latent")] == [
        used for used, _ in units
    ]
    for level in model.latent_levels:
        drawn = [
            model.sample_varying(5, level, generator=torch.Generator().manual_seed(n)).double()
            for n in range(2)
        ]
        expected = torch.stack([x.var(0).mean() for x in drawn]).mean()
        effect = found[f"{level}: variance of a pixel as its noise varies"]
        assert effect.value == pytest.approx(float(expected)), "black is 0 and white 1"
    for shown in outcome.shown:
        with Image.open(project / shown.file) as picture:
            assert picture.width > 200


def test_layout_is_told_from_texture() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20, 50, 1, 8, 8, generator=generator).double()
    whole = noise[..., :4, :4].repeat_interleave(2, -1).repeat_interleave(2, -2)
    for x, share in ((noise, 0.25), (whole, 1.0)):
        pixels, coarse = latent_uses.variance_and_layout(x)
        assert float(coarse.sum() / pixels.sum()) == pytest.approx(share, abs=0.01)
    assert [float(v) for v in latent_uses.variance_and_layout(torch.ones(1, 3, 3, 1, 5))] == [0, 0]


def test_walks_begin_and_end_near_their_images(project: Path) -> None:
    loaded = use_context.load("toy-pixelvae")
    settings = latent_uses.ImageInterpolation(num_pairs=5, num_shown=2, num_steps=4)
    outcome = settings.run(loaded, project)
    found = {number.name: number.value for number in outcome.numbers}
    rows = loaded.rows("test", 10)
    order = permute_rows(10, 0).tolist()
    first, second = (rows.x[places] for places in latent_uses.pairs(rows, order))
    way = latent_levels.walk(loaded.model, first, second, 4, None, loaded.generator(0)).double()
    apart = (way[:, -1] - way[:, 0]).flatten(1).norm(dim=1).mean()
    assert found["distance between the ends of a walk"] == pytest.approx(float(apart))
    own = (first - way[:, 0]).flatten(1).norm(dim=1).mean()
    assert found["from an image to the end that is to be it"] == pytest.approx(float(own))
    assert (project / "walks.png").is_file()


def test_walks_between_vectors_are_drawn_given_them(project: Path, monkeypatch) -> None:
    loaded = use_context.load("toy-pixelvae")
    event = loaded.images
    model = arcore.create_model("gated_pixelcnn", event, width=4, num_layers=1, condition_size=3)
    rows = loaded.rows("test", 10)
    vectors = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    told = ModelRows(rows.numbers, rows.x, vectors, vectors.numpy())
    changed = dataclasses.replace(
        loaded, trained=dataclasses.replace(loaded.trained, model=model.eval())
    )
    monkeypatch.setattr(type(changed), "rows", lambda *_: told)
    settings = latent_uses.ImageInterpolation(num_pairs=5, num_shown=2, num_steps=4)
    outcome = settings.run(changed, project)
    found = {number.name: number.value for number in outcome.numbers}
    first, second = latent_uses.pairs(told, permute_rows(10, 0).tolist())
    own, halfway = vectors[first], (vectors[first] + vectors[second]) / 2
    for place, given in (("its own vector", own), ("the vector halfway", halfway)):
        nats = -model.log_prob(rows.x[first], given).detach().mean()
        assert found[f"an image given {place}"] == pytest.approx(float(nats), rel=1e-5)


def test_partners_are_of_another_class_and_each_row_serves_once() -> None:
    labels = np.array([0, 0, 1, 2, 0, 1, 2, 0])
    x = torch.arange(8)[:, None]
    first, second = latent_uses.pairs(ModelRows(np.arange(8), x, None, labels), range(8))
    assert first == [0, 1, 2, 3] and sorted(second) == [4, 5, 6, 7]
    assert (labels[first] != labels[second]).all()
    vectors = np.zeros((4, 3), np.float32)
    for without in (None, vectors):
        rows = ModelRows(np.arange(4), x[:4], None, without)  # as stored, class by class perhaps
        assert latent_uses.pairs(rows, [3, 0, 1, 2]) == ([3, 0], [1, 2])
