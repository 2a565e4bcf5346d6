"""A first experiment on a dataset of the user's own: an entry of local/params.yaml."""

import math
import time
from pathlib import Path

import torch

import arcore
from arcore import zoo
from arcore.events import Event, Levels, is_levels, is_real
from pipeline.cluster.devices import local_device
from pipeline.core import atomic, paths
from pipeline.core.errors import UserError, require
from pipeline.datasets.base import Dataset
from pipeline.experiments import layout
from pipeline.experiments.params_file import KINDS, read_params, repro_command

FOLDER = Path(paths.LOCAL)
EPOCHS = 20
STEPS, PICTURE_STEPS = 2_000, 600  # at least: of rows of a table, of images and clips
BATCH = 100  # at most
PARAMETERS_PER_VALUE = 10  # at most, of the training rows
WIDTHS = (256, 128, 64, 32, 16)  # in place of a model's own
MOST_SHADES = 256  # more levels are codes
EMBEDDING_WIDTH = 16
DIMENSIONS_AT_ONCE = 1 << 16  # of the rows of one step
WINDOWS, SOUND_WINDOW, TEXT_WINDOW = 8, 2_048, 512  # of a step; samples of each
TIMED_ROWS, TIMED_LENGTH, TIMED_STEPS = 16, 4_000, 5


def add(dataset: Dataset, rows: int, model: str | None, replace: bool = False) -> list[str]:
    """Write an experiment on a dataset into local/params.yaml, and the stages into local/dvc.yaml.

    Without a model, one that suits the event. Width, batch and epochs suit the number of training
    rows. Returns lines that say what was written, how long training takes here, and the next
    command.
    """
    suited, conditions = suggested_model(dataset)
    model = model or suited
    fields = zoo.model_class(model).Config().to_dict() if model in zoo.list_models() else {}
    chosen = {name: value for name, value in conditions.items() if name in fields}
    try:
        size = _num_parameters(model, dataset.event, chosen)
        width = {} if dataset.event.is_open else _width(dataset.event, rows, model, fields)
        if width:
            size = _num_parameters(model, dataset.event, chosen | width)
        timed = arcore.create_model(model, dataset.event, **width)
        length = TIMED_LENGTH if dataset.sound is None else dataset.sound.max_length
        seconds = rows * _seconds_per_row(timed, dataset.event, min(length, TIMED_LENGTH))
    except ValueError as error:
        raise UserError(f"experiment on {dataset.name}: {error}") from None
    name = f"{dataset.name}-{model}"
    trainer = _trainer(dataset, rows)
    entry: dict[str, object] = {
        "dataset": dataset.name,
        "model": model,
        "model_overrides": chosen | width,
        "trainer": trainer,
    }
    _write(dataset.name, name, entry, replace)
    return [
        f"wrote {FOLDER / layout.FILE}: experiment {name}, {size:,} parameters, "
        f"{trainer['max_epochs']} epochs{' at most' * ('patience' in trainer)}, each about "
        f"{seconds:.2g} s here "
        f"({local_device().type})",
        f"next: dvc repro {FOLDER / 'dvc.yaml'}:report@{dataset.name}",
    ]


def suggested_model(dataset: Dataset) -> tuple[str, dict[str, object]]:
    """Return the name of a model for a dataset, and hyperparameters: of conditions, of codes."""
    conditions = {
        "num_classes": dataset.num_classes,
        "condition_size": dataset.condition_size,
        "condition_shape": list(dataset.condition_shape or ()),
    }
    told: dict[str, object] = {name: value for name, value in conditions.items() if value}
    if (sound := dataset.sound) is not None:
        if len(sound.speakers) > 1:
            told["num_classes"] = len(sound.speakers)
        if sound.symbols:
            told["local_classes"] = len(sound.symbols)
        return "wavenet", told
    if is_real(dataset.event):
        return "rnade", told
    if is_levels(dataset.event) and dataset.event.num_levels > MOST_SHADES:
        told["embedding_width"] = EMBEDDING_WIDTH
    elif is_levels(dataset.event) and dataset.event.num_levels == MOST_SHADES:
        told["head"] = (
            "logistic_mixture"  # a softmax of 256 logits takes about three times the steps
        )
    by_rank = {3: "gated_pixelcnn", 4: "video_pixel_network"}
    return by_rank.get(len(dataset.event.shape), "made"), told


def _width(event: Event, rows: int, model: str, fields: dict[str, object]) -> dict[str, object]:
    """Return the width of a model that is too large for its rows, {} for one that is not."""
    most = PARAMETERS_PER_VALUE * rows * event.size
    sizes: list[dict[str, object]] = [{}]
    match fields:
        case {"hidden": int(own)}:
            sizes += [{"hidden": width} for width in WIDTHS if width < own]
        case {"hidden": tuple(own) | list(own)}:
            sizes += [{"hidden": [width] * len(own)} for width in WIDTHS if width < max(own)]
        case {"width": int(own)}:
            sizes += [{"width": width} for width in WIDTHS if width < own]
    fits = (width for width in sizes if _num_parameters(model, event, width) <= most)
    return next(fits, sizes[-1])


def _num_parameters(model: str, event: Event, hyperparameters: dict[str, object]) -> int:
    made = arcore.create_model(model, event, **hyperparameters)
    return sum(parameter.numel() for parameter in made.parameters())


def _trainer(dataset: Dataset, rows: int) -> dict[str, object]:
    """Return epochs and rows of a step; for few rows more epochs of smaller steps."""
    event = dataset.event
    if event.is_open:
        is_text = dataset.sound is not None and dataset.sound.is_text
        window = TEXT_WINDOW if is_text else SOUND_WINDOW
        return {"max_epochs": EPOCHS, "batch_size": WINDOWS, "window": window}
    batch_size = max(8, min(BATCH, rows // 10, DIMENSIONS_AT_ONCE // event.size))
    steps = STEPS if len(event.shape) == 1 else PICTURE_STEPS
    epochs = math.ceil(steps / math.ceil(rows / batch_size))
    patience: dict[str, object] = {"patience": EPOCHS} if epochs > EPOCHS else {}
    return {"max_epochs": max(EPOCHS, epochs), "batch_size": batch_size} | patience


def _seconds_per_row(model: arcore.AutoregressiveModel, event: Event, length: int) -> float:
    """Time a training step of a model without a condition on rows of zeros, of an open length."""
    device = local_device()
    model = model.to(device)
    shape = tuple(length if extent is None else extent for extent in event.shape)
    kind = torch.long if isinstance(event, Levels) else torch.float32
    x = torch.zeros((TIMED_ROWS, *shape), dtype=kind, device=device)
    seconds = []
    for _ in range(TIMED_STEPS):  # the first one warms up, and others may meet other work
        start = time.perf_counter()
        model(x).mean().backward()
        seconds.append(time.perf_counter() - start)
    return min(seconds) / TIMED_ROWS


def _write(dataset: str, name: str, entry: dict[str, object], replace: bool) -> None:
    path = FOLDER / layout.FILE
    text = path.read_text(encoding="utf-8") if path.exists() else layout.EMPTY
    taken = any(name in (read_params().get(section) or {}) for section in KINDS)
    mine = repro_command("train", name).startswith(f"dvc repro {FOLDER}/")
    require(not taken or (mine and replace), "experiment", "a new name, or --replace", name)
    atomic.write_text(path, layout.with_experiment(text, dataset, name, entry))
    layout.complete(path)
