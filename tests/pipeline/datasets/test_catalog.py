"""The catalogue: names, options and their errors, and a raw file that is missing."""

import pytest

from arcore.events import Binary, Real
from pipeline.datasets import catalog
from tests.support.refusals import refused


@pytest.mark.parametrize("name", catalog.list_datasets())
def test_every_conf_builds_its_dataset_with_all_options_spelt_out(name: str) -> None:
    config = catalog.load_settings(name)
    dataset = catalog.get_dataset(config)
    assert dataset.name == name == config["name"]
    assert dataset == catalog.get_dataset({"name": name})
    assert set(config) == {"name", *vars(dataset.options)}
    reals = isinstance(dataset.event, Real) and dataset.event.bin_width is None
    in_nats = reals or isinstance(dataset.event, Binary)
    image = "nats" if in_nats else "bits_per_dim"
    clips = {"robotic_pushing": "nats_per_dim"}.get(name, "nats_per_frame")
    assert dataset.unit == (clips if dataset.context_frames else image)
    assert len({file.name for file in dataset.files}) == len(dataset.files)


def test_conf_folder_lists_the_datasets() -> None:
    confs = sorted(path.stem for path in catalog.CONF_FOLDER.glob("*.yaml"))
    assert confs == catalog.list_datasets()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "digit"}, "unknown dataset 'digit'; did you mean 'digits'"),
        ({}, "expected a mapping with the key name"),
        ({"name": "dna", "splt": "published"}, "unknown dna option 'splt'; did you mean 'split'"),
        ({"name": "dna", "split": "mine"}, "expected 'published' or 'as_distributed', got"),
        ({"name": "dna", "rows_per_shard": "7"}, "rows_per_shard .*: expected .* integer, got '7'"),
        ({"name": "dna", "rows_per_shard": True}, "expected .* integer, got True"),
        ({"name": "dna", "rows_per_shard": 0}, "rows_per_shard .*: expected an integer >= 1"),
    ],
)
def test_bad_configuration_is_one_clear_line(config: dict[str, object], message: str) -> None:
    with refused(message):
        catalog.get_dataset(config)


@pytest.mark.parametrize("override", ["split", "name=digits", "a.b=1", "split=[1"])
def test_bad_override_is_one_clear_line(override: str) -> None:
    with refused("override|split: expected YAML"):
        catalog.load_settings("dna", [override])


def test_overrides_are_typed() -> None:
    config = catalog.load_settings("dna", ["split=as_distributed", "rows_per_shard=5"])
    assert config == {"name": "dna", "split": "as_distributed", "rows_per_shard": 5}
