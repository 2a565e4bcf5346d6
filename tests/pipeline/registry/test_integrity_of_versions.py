"""What was registered is what is loaded, and champions are compared on the same rows."""

import urllib.parse
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
import yaml
from safetensors.torch import load_file, save_file

import arcore
from pipeline.registry import registration
from pipeline.tracking import mlflow_store
from tests.places import python_examples
from tests.support.refusals import refuses
from tests.support.registered import experiment


def artifact(name: str) -> Path:
    (logged,) = mlflow_store.client().search_logged_models(["1"])
    folder = Path(urllib.parse.unquote(urllib.parse.urlparse(logged.artifact_location).path))
    (path,) = folder.rglob(name)
    return path


def scale(path: Path) -> None:
    save_file({k: 2 * v for k, v in load_file(path).items()}, path)


def one_member(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    config["evaluation"]["num_members"] = 1
    path.write_text(yaml.safe_dump(config))


def test_a_version_whose_files_were_changed_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment("toy-made", "made", valid_nats=8.0, members=3, num_masks=3, hidden=[8])
    registration.register_dataset("toy")
    uri = "models:/arcore-toy@champion"
    mlflow.set_tracking_uri(mlflow_store.tracking_uri())
    mlflow.pyfunc.load_model(uri)
    changes: list[tuple[str, Callable[[Path], None]]] = [
        ("model.safetensors", scale),
        ("config.yaml", one_member),
        ("config.yaml", Path.unlink),
    ]
    for name, change in changes:
        path = artifact(name)
        before = path.read_bytes()
        change(path)
        with pytest.raises(Exception, match=f"{name}: expected the file that was registered"):
            mlflow.pyfunc.load_model(uri)
        if name == "model.safetensors":
            monkeypatch.setenv("ARCORE_CACHE", str(home / "cache"))
            refuses(lambda: arcore.load(uri), ["", name, "expected SHA-256", "got"])
        path.write_bytes(before)
    mlflow.pyfunc.load_model(uri)
    refuses(lambda: arcore.load("models:/arcore-toy@best"), ["models:/arcore-toy@best", "best"])
    names: dict[str, arcore.AutoregressiveModel] = {}
    exec(python_examples("docs/hub.md")[1].replace("arcore-digits", "arcore-toy"), names)
    assert len(names["model"].ensemble(3).members) == 3


def test_the_champion_is_compared_on_the_same_rows(monkeypatch, caplog) -> None:
    def candidate(
        name: str, nats: float, rows: int, digest: str, size: int = 5, competes: bool = True
    ) -> Any:
        result = {"valid_nats": nats, "num_valid_rows": rows, "valid_rows_sha256": digest}
        result["num_parameters"] = size
        return SimpleNamespace(name=name, competes=competes, result=SimpleNamespace(**result))

    found = [
        candidate("few", 7.0, 10, "b"),
        candidate("a mixture that is partly told the class", 7.0, 100, "a", competes=False),
        candidate("a mixture with all its weight on good", 8.0, 100, "a", size=9),
        candidate("good", 8.0, 100, "a"),
        candidate("poor", 9.0, 100, "a"),
    ]
    entries: Any = {one.name: SimpleNamespace(version=3) for one in found}
    store: Any = None
    monkeypatch.setattr(registration, "_point", lambda *_: None)
    champion = registration._choose_champion(store, "arcore-toy", found, entries)
    assert champion is not None and champion.experiment == "good"
    assert "few was validated on other rows (10) than those that are compared (100)" in caplog.text
    assert "poor" not in caplog.text
