"""Folders of models: what is saved comes back bit by bit, and nothing damaged does."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.modules.module import register_module_parameter_registration_hook

import arcore
from arcore import saving
from arcore.entropy import fingerprint
from arcore.events import Binary, Event
from tests.arcore.cases import FEWEST, cases_where
from tests.support.cases import Case

SIX = Binary((6,))


def nade(event: Event = SIX) -> arcore.AutoregressiveModel:
    torch.manual_seed(0)
    return arcore.create_model("nade", event, hidden=3)


@cases_where(lambda case: case in FEWEST and case.defined is None)
def test_what_is_saved_comes_back(case: Case, tmp_path: Path) -> None:
    """Masks and orders too, which no file holds: it scores as before."""
    model = dataclasses.replace(case, mask=0).build().eval()
    state = torch.get_rng_state()
    with torch.device("meta"):  # whatever the default device is
        arcore.save(model, tmp_path / "model")
    loaded = arcore.load(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), state)
    assert type(loaded) is type(model) and not loaded.training
    assert (loaded.event, loaded.hyperparameters) == (model.event, model.hyperparameters)
    kept = loaded.state_dict()
    assert kept.keys() == model.state_dict().keys()
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    x, condition = case.values(4), case.condition(4)
    scores = [
        (one.member(case.mask) if case.mask else one).log_prob(x, condition)
        for one in (loaded, model)
    ]
    assert torch.equal(*scores)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "config.json", "model", "model.safetensors",
    ]  # fmt: skip
    config, weights = (tmp_path / "model" / name for name in ("config.json", "model.safetensors"))
    assert weights.stat().st_mode == config.stat().st_mode


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes_are_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    model = nade().to(dtype)
    arcore.save(model, tmp_path / "model")
    loaded = arcore.load(tmp_path / "model", "cpu")
    assert loaded.dtype == dtype and fingerprint(loaded) == fingerprint(model)


def test_a_model_in_training_is_saved_as_it_is(tmp_path: Path) -> None:
    """Masks and warm-up of a training step are not the model's; it goes on training."""
    model = arcore.create_model("made", Binary((6,)), hidden=[8], num_masks=3).train()
    model.set_step(0, 1)
    order = model.output.mask.clone()
    arcore.save(model, tmp_path / "made")
    assert model.training and torch.equal(model.output.mask, order)
    x = torch.randint(2, (5, 6))
    assert torch.equal(arcore.load(tmp_path / "made").log_prob(x), model.eval().log_prob(x))
    latent = arcore.create_model("pixelvae", Binary((1, 4, 4)), warmup_steps=9)
    latent.set_step(0, 1)
    arcore.save(latent, tmp_path / "vae")
    found = arcore.load(tmp_path / "vae")
    assert found.hyperparameters.warmup_steps == 9
    kept = found.state_dict()
    assert kept.keys() == latent.state_dict().keys()
    assert all(torch.equal(value, kept[name]) for name, value in latent.state_dict().items())


def test_views_and_ensembles_are_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="folder: expected one that the working directory is not"):
        arcore.save(nade(), ".")
    made = arcore.create_model("made", SIX, hidden=[8], num_masks=3)
    orderless = arcore.create_model("deep_nade", SIX, hidden=[8])
    agnostic = arcore.create_model("made", SIX, hidden=[8], num_masks=3, order_agnostic=True)
    views = (
        nade().under(torch.arange(5, -1, -1)),
        made.member(2),
        agnostic.under(torch.arange(6)),
        orderless.member(1),
        orderless.under(torch.arange(5, -1, -1)),
    )
    for view in views:
        with pytest.raises(ValueError, match="model: expected a model that its hyperparameters"):
            arcore.save(view, tmp_path / "view")
    with pytest.raises(ValueError, match=r"model: expected one of .* \(of an ensemble, save each"):
        arcore.save(made.ensemble(2), tmp_path / "view")
    assert list(tmp_path.iterdir()) == []
    arcore.save(made, tmp_path / "made")
    x = torch.randint(2, (4, 6))
    again = arcore.load(tmp_path / "made").ensemble(3)
    assert torch.equal(again.log_prob(x), made.eval().ensemble(3).log_prob(x))


def test_weights_of_an_ensemble_are_loaded_in_place(tmp_path: Path) -> None:
    saved, other = (arcore.Ensemble([nade(), nade()]) for _ in range(2))
    for parameter in saved.parameters():
        parameter.data += 1
    save_file(saved.state_dict(), tmp_path / "both.safetensors")
    saving.load_weights(other, tmp_path / "both.safetensors")
    x = torch.ones(2, 6)
    assert torch.equal(other.log_prob(x), saved.log_prob(x))


def test_a_folder_of_other_files_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "model"
    arcore.save(nade(), folder)
    arcore.save(nade(Binary((7,))), folder)
    assert arcore.load(folder).event == Binary((7,))
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="folder: expected a new folder, or one that arcore.save"):
        arcore.save(nade(), folder)
    with pytest.raises(ValueError, match="folder: expected a new folder"):
        arcore.save(nade(), folder / "notes.txt")
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_take_its_place_leaves_what_was_there(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "model"
    arcore.save(nade(), folder)
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if target == folder and source.name.endswith(".partial"):
            raise OSError("stale file handle")
        replace(source, target)

    monkeypatch.setattr(saving.os, "replace", fail)
    with pytest.raises(OSError, match="stale file handle"):
        arcore.save(nade(Binary((7,))), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert arcore.load(folder).event == Binary((6,))


def test_of_two_saves_at_once_the_last_one_stays(tmp_path, monkeypatch) -> None:
    """Another process puts its folder in place just after this one moved the old one away."""
    model, other = (arcore.create_model("nade", Binary((4,)), hidden=h) for h in (2, 3))
    saving.save(model, tmp_path / "toy")
    replace, moved = os.replace, []

    def disturbed(source: Path, target: Path) -> None:
        replace(source, target)
        if not moved:
            moved.append(source)
            saving.save(other, tmp_path / "toy")

    monkeypatch.setattr(os, "replace", disturbed)
    saving.save(model, tmp_path / "toy")
    assert moved and saving.load(tmp_path / "toy").hyperparameters.hidden == 2
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    folder, link = tmp_path / "model", tmp_path / "latest"
    arcore.save(nade(), folder)
    link.symlink_to(folder)
    arcore.save(nade(Binary((7,))), link)
    assert link.is_symlink() and arcore.load(folder).event == Binary((7,))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "model"]


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    model = nade()
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = torch.inf
    with pytest.raises(ValueError, match="model: .*: expected finite weights, got 'NaN or inf"):
        arcore.save(model, tmp_path / "model")


def change(folder: Path, **fields: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 2}, "expected a config of format 1, got 2"),
        ({"format": True}, "expected a config of format 1, got True"),
        ({"name": "nad"}, "did you mean 'nade'"),
        ({"name": 3}, "name: expected a str, got 3"),
        ({"event": {"kind": "binary"}}, "event: expected fields"),
        ({"event": {"kind": "binary", "shape": 3}}, "not a model of this arcore"),
        ({"event": {"kind": "binary", "shape": [7]}}, "shape of .*: expected"),
        ({"event": {"kind": "binary", "shape": [10**9]}}, "at most .* dimensions, got 1000000000"),
        ({"event": None}, "event: expected a dict, got None"),
        ({"hyperparameters": {"hiden": 3}}, "did you mean 'hidden'"),
        ({"hyperparameters": {"hidden": 0}}, "hidden: expected an integer >= 1"),
        ({"hyperparameters": {"hidden": 10**30}}, r"hidden: expected integers below 2\^24, got 1"),
        ({"hyperparameters": {"hidden": 4}}, "shape of .*: expected"),
        ({"dtype": "int8"}, "dtype: expected one of float32"),
        ({"dtype": "float64"}, "dtype of .*: expected torch.float64, got torch.float32"),
    ],
)
def test_configs_are_checked(fields: dict[str, object], message: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    arcore.save(nade(), folder)
    change(folder, **fields)
    with pytest.raises(ValueError, match=message) as caught:
        arcore.load(folder)
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "sizes", [{"num_blocks": 10**7}, {"hidden": 30_000}, {"head_width": 10**6}], ids=str
)
def test_a_config_of_endless_sizes_is_refused_in_time(
    sizes: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "SLACK", 1 << 16)
    folder = tmp_path / "model"
    arcore.save(arcore.create_model("pixelcnn", arcore.events.Binary((1, 2, 2))), folder)
    described = json.loads((folder / "config.json").read_text())["hyperparameters"]
    change(folder, hyperparameters=described | sizes)
    made: list[torch.nn.Parameter] = []
    keeps = register_module_parameter_registration_hook(lambda _, name, own: made.append(own))
    with keeps, pytest.raises(ValueError, match="a model of the [0-9,]+ numbers of model.safet"):
        arcore.load(folder)
    assert made and all(parameter.is_meta for parameter in made)  # nothing was allocated
    arcore.create_model("pixelcnn", arcore.events.Binary((1, 2, 2)), num_blocks=2)


def test_a_mixture_of_endless_members_is_refused_in_time(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    arcore.save(arcore.Mixture([arcore.create_model("deep_nade", SIX, hidden=[2])]), folder)
    (member,) = json.loads((folder / "config.json").read_text())["hyperparameters"]["members"]
    change(folder, hyperparameters={"members": [member | {"num_members": 10**9}]})
    with pytest.raises(ValueError, match="num_members: expected at most 1024 for DeepNADE, got 1"):
        arcore.load(folder)


def test_a_missing_folder_and_a_record_without_weights_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a model's folder, got no such folder"):
        arcore.load(tmp_path / "nowhere")
    (tmp_path / "training.json").write_text("{}")
    with pytest.raises(ValueError, match="without weights; train it: python -m stages.train"):
        arcore.load(tmp_path)


def test_weights_are_checked(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    arcore.save(nade(), folder)
    path = folder / "model.safetensors"
    whole, weights = path.read_bytes(), load_file(path)
    name = sorted(weights)[0]
    damaged = {
        f"{name}: expected finite weights": weights | {name: weights[name] * torch.nan},
        f"shape of {name}": weights | {name: weights[name][..., :1].clone()},
        f"dtype of {name}": weights | {name: weights[name].double()},
        f"{name} is not in the file": {n: w for n, w in weights.items() if n != name},
        "other is not in the model": weights | {"other": torch.zeros(1)},
    }
    for message, changed in damaged.items():
        save_file(changed, path)
        with pytest.raises(ValueError, match=message):
            arcore.load(folder)
    config, unreadable = folder / "config.json", "model.safetensors: not a readable safetensors"
    for spoil, message in (
        *((lambda c=c: path.write_bytes(c), unreadable) for c in (b"", whole[:50], whole[:-1])),
        (lambda: path.write_bytes(b"\x80\x02." + whole), unreadable),
        (path.unlink, unreadable),
        (lambda: os.mkfifo(path), "model.safetensors: expected a file"),
        (lambda: config.write_text("{"), "config.json: not a JSON file"),
        (lambda: config.write_text("[" * 200_000), "config.json: not a JSON file"),
        (config.unlink, "config.json: expected a model's config, got No such"),
    ):
        spoil()
        with pytest.raises(ValueError, match=message):
            arcore.load(folder)


@pytest.mark.parametrize("device", ["foo", "cpu:7:7", 99])
def test_a_device_that_is_not_here_is_named(device: str | int, tmp_path: Path) -> None:
    arcore.save(nade(), tmp_path / "model")
    with pytest.raises(ValueError, match=f"^device: expected one that is here, got {device!r}"):
        arcore.load(tmp_path / "model", device)


def test_an_unknown_attribute_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'versoin'"):
        arcore.versoin  # noqa: B018


def test_classes_are_found_by_name() -> None:
    from arcore.models import DiagonalBiLSTM, made

    assert DiagonalBiLSTM.__module__ == "arcore.models.diagonal_bilstm"
    assert made.MADE is arcore.models.MADE
    assert {"MADE", "WaveNet", "ConvNADE"} <= set(dir(arcore.models))
    with pytest.raises(AttributeError, match="no attribute 'Made'"):
        arcore.models.Made  # noqa: B018
    kinds = [name for name in dir(arcore.models) if name[0].isupper() and name != "Any"]
    assert len(set(kinds) - {"Path", "Mapping", "GROUP", "COMBINATIONS"}) == len(
        arcore.list_models()
    )
