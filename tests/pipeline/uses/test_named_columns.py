"""Columns of tables are found by name at every door: files, data frames, registered models."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

import arcore
from arcore.inference import data_frames
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data import preprocessing
from pipeline.data.manifest import read_manifest
from pipeline.data.scalings import read_scalings
from pipeline.datasets import catalog
from pipeline.datasets.user import csv_file
from pipeline.uses import user_scores
from tests.support.own_files import write_cars
from tests.support.refusals import refused
from tests.support.registered import imported

Door = Callable[[pd.DataFrame], float]
KINDS = {"mixed": ("made", []), "levels": ("made", ["price"]), "reals": ("rnade", ["colour"])}


def trained(name: str, drop: list[str], **others: object) -> arcore.AutoregressiveModel:
    """Leave the shards of a file and an untrained model of it; return the model."""
    given = {"drop": drop} | ({"levels": {"doors": 0, "owners": 0}} if name == "reals" else {})
    described = {"name": name, "kind": "csv", "path": "cars.csv", **given}
    described |= csv_file.guess(name, "cars.csv", given) | given
    dataset = catalog.get_dataset(described)
    written = dataclasses.replace(dataset, **others)
    preprocessing.write(written, dataset.decode(Path()), paths.shards(name))
    hidden = 4 if name == "reals" else [4]
    model = arcore.create_model(KINDS[name][0], dataset.event, hidden=hidden)
    arcore.save(model.eval(), f"models/{name}")
    config = {
        "name": name,
        "dataset": described,
        "dataset_sha256": read_manifest(paths.shards(name)).sha256,
        "model": {"name": KINDS[name][0], **model.hyperparameters.to_dict()},
        "event": arcore.events.to_dict(model.event),
        "evaluation": {},
    }
    Path(f"models/{name}/config.yaml").write_text(yaml.safe_dump(config))
    return model


def registered(name: str) -> Door:
    """Return the door of a registered model, of what is exported of one."""
    folder, manifest = Path("models", name), read_manifest(paths.shards(name))
    scalings = {role: one.to_dict() for role, one in read_scalings(paths.shards(name)).items()}
    (folder / "scalings.json").write_text(json.dumps(scalings))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert manifest.table is not None
    config["columns"] = manifest.table.to_dict()["columns"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    loaded = imported(folder)
    return lambda frame: float(loaded.predict(None, frame)["nats"].mean())


def of_file(name: str) -> Door:
    def score(frame: pd.DataFrame) -> float:
        frame.to_csv("given.csv", index=False)
        return user_scores.score(name, "given.csv").score.nats

    return score


def changes(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield tables that are not the model's."""
    yield "an additional column", frame.assign(serial=1)
    for name in frame.columns:
        yield f"{name} renamed", frame.rename(columns={name: "other"})
        yield f"{name} missing", frame.drop(columns=name)
        yield f"{name} doubled", pd.concat([frame, frame[[name]]], axis=1)
        yield f"{name} of another type", frame.assign(**{name: 0.5 if name == "colour" else "red"})
        if name in ("doors", "owners") and "colour" in frame:
            yield f"{name} beyond its levels", frame.assign(**{name: 7})


@pytest.mark.parametrize("name", KINDS)
def test_columns_in_any_order_score_alike_and_others_are_refused(workdir: Path, name: str) -> None:
    write_cars(Path("cars.csv"))
    model = trained(name, KINDS[name][1])
    frame = pd.read_csv("cars.csv").drop(columns=KINDS[name][1])[:20]
    doors = {"a file": of_file(name), "a registered model": registered(name)}
    if arcore.events.is_table(model.event):
        doors["a data frame"] = lambda x: -float(data_frames.log_prob(model, x).detach().mean())
    names = [*frame.columns]
    for door, score in doors.items():
        wanted = score(frame)
        for turned in (names[::-1], names[1:] + names[:1]):
            assert score(frame[turned]) == wanted, (door, turned)
        for what, changed in changes(frame):
            with pytest.raises((ValueError, UserError)) as caught:
                score(changed)
            text = str(caught.value)
            assert "\n" not in text and ": expected " in text and ", got " in text, (door, what)


@pytest.mark.parametrize("name", ["mixed", "reals"])
def test_training_rows_of_a_table_are_told(
    workdir: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_cars(Path("cars.csv"))
    trained(name, KINDS[name][1])
    user_scores.score(name, "cars.csv")
    assert caplog.messages == [f"warning: cars.csv: 48 of 60 rows are training rows of {name}"]


def test_shards_without_names_do_not_let_columns_count_by_their_places(workdir: Path) -> None:
    write_cars(Path("cars.csv"))
    trained("reals", KINDS["reals"][1], columns=())
    with refused("data/shards/reals: expected shards with the columns' names, got older; run"):
        user_scores.score("reals", "cars.csv")


def test_a_model_of_a_table_without_a_training_finds_its_columns_by_name(workdir: Path) -> None:
    write_cars(Path("cars.csv"))
    model = trained("mixed", [])
    arcore.save(model, "plain")
    wanted = user_scores.score("mixed", "cars.csv").score
    pd.read_csv("cars.csv")[["price", "owners", "colour", "doors"]].to_csv(
        "turned.csv", index=False
    )
    assert user_scores.score("plain", "turned.csv").score == wanted
    Path("turned.csv").write_text(Path("turned.csv").read_text().replace("owners", "keepers"))
    with refused("turned.csv: expected one column 'owners'"):
        user_scores.score("plain", "turned.csv")
