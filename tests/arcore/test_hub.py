"""Weights by name: from a folder and an address, verified, kept, and refused in one line."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import arcore
from arcore import hub
from tests.support.refusals import refuses
from tests.support.served_folder import served

NAME = "bits-nade"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ARCORE_HUB", str(tmp_path / "hub"))
    model = arcore.create_model("nade", arcore.events.Binary((4,)), hidden=2)
    arcore.save(model, tmp_path / "hub" / NAME)
    hub.write_index(tmp_path / "hub")
    return tmp_path / "hub"


def same(folder: Path) -> bool:
    one, other = (arcore.load(path).state_dict() for path in (f"hub:{NAME}", folder / NAME))
    return all(torch.equal(one[name], other[name]) for name in other)


def test_a_model_comes_from_a_folder_or_an_address_and_then_from_the_cache(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(weights) as address:
        monkeypatch.setenv("ARCORE_HUB", f"{address}/")
        assert same(weights)
    with pytest.warns(UserWarning, match="refused.*; takes the index of an earlier time"):
        assert same(weights), "without a network"
        folder = hub.fetch(NAME)
    (folder / hub.FILES[1]).write_bytes(b"damaged")
    refused = [f"{address}/{NAME}", "cannot be read", "refused"]
    with pytest.warns(UserWarning, match="takes the index of an earlier time"):
        refuses(lambda: arcore.load(f"hub:{NAME}"), refused)
    monkeypatch.setenv("ARCORE_HUB", str(weights))
    assert same(weights) and not list(weights.parent.rglob(".*")), "brought again"
    index = (weights / hub.INDEX).read_bytes()
    (weights / hub.INDEX).write_text("<html>")
    refuses(lambda: hub.fetch(NAME), ["", "hub.json: not an index of models"])
    (weights / hub.INDEX).unlink()
    with pytest.warns(UserWarning, match="hub.json: cannot be read: .*No such file"):
        assert same(weights), "the index in the cache stays"
    (weights / hub.INDEX).write_bytes(index)
    kept = hub.fetch(NAME).parent / hub.INDEX
    kept.write_text("<html>")
    assert same(weights), "and is mended by the hub's"


def test_the_index_keeps_weights_that_dvc_has(weights: Path) -> None:
    file = weights / NAME / "model.safetensors"
    before = (weights / hub.INDEX).read_bytes()
    file.rename(file.with_name("model.safetensors.dvc"))
    assert hub.write_index(weights).read_bytes() == before
    file.with_name("model.safetensors.dvc").unlink()
    hub.write_index(weights)
    refuses(lambda: hub.fetch(NAME), ["name", "one of the 0 models"])


def of(change: dict[str, object]) -> dict[str, object]:
    """An index with an entry of two files."""
    return {"models": {NAME: dict.fromkeys(hub.FILES, {"sha256": "0" * 64, "size": 1} | change)}}


BAD = [
    (lambda: hub.fetch("bits-nad"), {}, ["name", "1 models of", "did you mean 'bits-nade'?"]),
    (lambda: hub.fetch("../bits-nade"), {}, ["name", "letters, digits", "'../bits-nade'"]),
    (lambda: hub.fetch("a/b"), {}, ["name", "letters, digits", "'a/b'"]),
    (lambda: hub.fetch(NAME, "http://127.0.0.1:1"), {}, ["http://127.0.0.1:1/hub.json", "refused"]),
    (lambda: hub.fetch(NAME, "http://me:secret@host"), {}, ["ARCORE_HUB", "without a user"]),
    (lambda: hub.fetch(NAME, "nowhere"), {}, ["", "nowhere/hub.json: cannot be read", "No such"]),
    (lambda: hub.fetch(NAME), {"models": 3}, ["", "not an index of models"]),
    (
        lambda: hub.fetch(NAME),
        {"models": {NAME: {}}},
        ["", "not an index of models", "config.json"],
    ),
    (lambda: hub.fetch(NAME), of({"sha256": "../x"}), ["", "sha256 and size of each", "../x"]),
    (lambda: hub.fetch(NAME), of({"size": 10**30}), ["", "config.json: cannot be read"]),
    (lambda: hub.fetch(NAME), of({"size": -2}), ["", "sha256 and size of each", "-2"]),
    (lambda: hub.fetch(NAME), of({}), ["", "config.json: expected SHA-256 0000"]),
    (lambda: hub.write_index("nowhere"), {}, ["folder", "a folder of saved models", "'nowhere'"]),
]


@pytest.mark.parametrize(("call", "index", "parts"), BAD)
def test_bad_input_is_refused(call, index, parts: list[str], weights: Path) -> None:
    path = weights / "hub.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | index))
    refuses(call, parts)
    assert not list(weights.parent.glob(f"cache/*/{NAME}*/*")), "nothing unverified stays"


@pytest.mark.parametrize("file", [hub.INDEX, *(f"{NAME}/{file}" for file in hub.FILES)])
def test_a_pipe_is_no_file_of_a_hub(weights: Path, file: str) -> None:
    """It would wait for whoever writes to it."""
    (weights / file).unlink()
    os.mkfifo(weights / file)
    refuses(lambda: hub.fetch(NAME), ["", f"{file}: file: expected a plain file"])


@pytest.mark.parametrize("folder", [None, 3, b"bits-nade", []])
def test_what_is_no_path_is_refused(folder: Any) -> None:
    refuses(lambda: arcore.load(folder), ["folder: expected a path or a name", repr(folder)])


def test_errors_of_a_store_tell_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for uri in (
        "http://me:secret@127.0.0.1:1",
        "sqlite:////proc/self/secret",
        "sqlite:////etc/passwd",
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        with pytest.raises(ValueError, match="^models:/a@b: cannot be read") as caught:
            arcore.load("models:/a@b")
        assert "me:secret" not in str(caught.value)


def test_an_altered_file_and_no_hub_are_refused(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = weights / NAME / "config.json"
    path.write_text(path.read_text().swapcase())
    refuses(lambda: arcore.load(f"hub:{NAME}"), [str(weights), "config.json: expected SHA-256"])
    monkeypatch.delenv("ARCORE_HUB")
    refuses(lambda: arcore.load(f"hub:{NAME}"), ["ARCORE_HUB", "a folder or an address", "''"])
