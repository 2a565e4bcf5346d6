"""The weights in `results/` load, draw, and score what was recorded with them."""

import json
from pathlib import Path

import pytest
import torch

import arcore
from arcore.distributions.drawing import draw
from arcore.ensembles import Ensemble
from arcore.events import Levels
from pipeline.core import paths
from pipeline.data import fetching, preprocessing
from pipeline.datasets import catalog
from pipeline.datasets.base import Dataset
from pipeline.evaluation import rescoring
from pipeline.experiments import compose, naming
from reproductions.datasets import simulated_pushing
from reproductions.publishing import recording
from tests.places import MIRROR, ROOT

KEPT = sorted(path.parent for path in (ROOT / "results").rglob("model.safetensors"))
RECORDS = sorted({path.relative_to(ROOT / "results").parts[0] for path in KEPT})
QUICK = ("mushrooms-nade", "nips-nade", "dna-nade")
LONGEST = 20.0  # recorded seconds of evaluation: all of them take over three hours


def evaluated_in(name: str) -> float:
    timing = json.loads((ROOT / "results" / name / "timing.json").read_text(encoding="utf-8"))
    return float(timing["evaluate_seconds"])


RESCORED = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow, id=name)
    for name in RECORDS
    if evaluated_in(name) < LONGEST  # of the others, python -m stages.rescore --all
]


def test_they_are_some_and_small() -> None:
    """At most 8 MB each and 64 MB in all, since Git keeps every version."""
    assert set(RECORDS) >= {"mushrooms-nade", "nips-nade"}
    sizes = [(folder / "model.safetensors").stat().st_size for folder in KEPT]
    assert all(size <= recording.MOST_WEIGHTS for size in sizes) and sum(sizes) <= 64_000_000


@pytest.mark.parametrize(
    "folder", KEPT, ids=lambda folder: str(folder.relative_to(ROOT / "results"))
)
def test_they_load_and_draw(folder: Path) -> None:
    model = arcore.load(folder)
    if model.event.is_open:
        model = model.of_length(50)  # type: ignore[operator]
    kind, condition = model.condition_kind, None
    if kind is not None:
        dtype = torch.int64 if kind.is_integer else torch.float32
        condition = kind.unflatten(torch.zeros(2 * kind.numbers(1), dtype=dtype), 2)
    if model.event.size >= 50_000:  # a clip in colour takes a minute
        return
    one = model.members[0] if isinstance(model, Ensemble) else model
    decoder = one.decoder(2, condition)
    for block in one.schedule[:9]:
        drawn = draw(decoder.next(), None)
        assert drawn.shape == (2, len(block))
        if isinstance(model.event, Levels):
            assert 0 <= int(drawn.min()) and int(drawn.max()) < model.event.num_levels
        decoder.push(drawn)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the records, to which shards are added."""
    if not MIRROR.is_dir():
        pytest.skip("no mirror of the raw data (../shared/data)")
    folder = tmp_path_factory.mktemp("records")
    for name in ("results", "params.yaml", "reproductions", "pipeline"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def bring(dataset: Dataset) -> None:
    """Make the shards of a dataset, or take those of the project where that is minutes of work."""
    if dataset.name != simulated_pushing.NAME:
        fetching.fetch(dataset)
        preprocessing.preprocess(dataset)
        return
    rendered = ROOT / "data" / "shards" / dataset.name
    if not rendered.is_dir():
        pytest.skip(f"no {rendered}: minutes of rendering by the optional pybullet")
    paths.shards(dataset.name).parent.mkdir(parents=True, exist_ok=True)
    paths.shards(dataset.name).symlink_to(rendered)


@pytest.mark.parametrize("name", RESCORED)
def test_the_recorded_number_comes_out(name: str, records: Path, workdir, monkeypatch) -> None:
    monkeypatch.chdir(records)
    monkeypatch.setenv("ARCORE_MIRROR", str(MIRROR))
    config = compose.load(naming.experiment_of(name))
    if not paths.shards(config.dataset["name"]).exists():
        bring(catalog.get_dataset(config.dataset))
    for found in rescoring.rescore(name):
        assert found.same, found
