"""Models as folders: `config.json` and `model.safetensors`, and back. Nothing is pickled."""

import copy
import errno
import json
import math
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from arcore import events, hub
from arcore.ensembles import Combination, require_weights
from arcore.model import AutoregressiveModel
from arcore.models import COMBINATIONS, name_of
from arcore.primitives.checks import require
from arcore.zoo import create_model

Created = TypeVar("Created")  # a model, with what else a config says of it

FORMAT = 1
CONFIG, WEIGHTS = hub.FILES
EXPECTED = "one of arcore.list_models() (of an ensemble, save each member's model)"
SLACK = 1 << 26  # numbers that a model may have beyond those of its file,
PER_TENSOR = 1 << 14  # what each parameter counts for in addition
DTYPES = {str(d).removeprefix("torch."): d for d in (
    torch.float32, torch.float64, torch.bfloat16, torch.float16,
)}  # fmt: skip


def save(model: AutoregressiveModel, folder: str | os.PathLike[str]) -> None:
    """Write a model to a folder that `load` reads: its config and its weights.

    The folder is written under a temporary name and renamed when it is whole. An existing folder
    is replaced if `save` wrote it, and refused if it holds anything else.

    Arguments:
        model: any of `arcore.list_models()`, or a `Mixture` or `Pool` of them, in any
            floating-point dtype, on any device.
        folder: to write.

    Raises:
        ValueError: for an ensemble, whose members are to be saved each; for another view of a
            model, which its hyperparameters do not rebuild; for weights that are not finite; or for
            a folder with other files.

    Example:
        >>> import arcore, tempfile
        >>> folder = Path(tempfile.mkdtemp(), "nade")
        >>> arcore.save(arcore.create_model("nade", arcore.events.Binary((4,)), hidden=2), folder)
        >>> arcore.load(folder)
        NADE(Binary(shape=(4,), num_levels=2), NADEConfig(hidden=2, ...), parameters=...)
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    config = describe(model)
    with torch.device("cpu"):
        twin = _create(config, "model")
    _require_rebuilt(model, twin)
    weights = {name: w.detach().cpu().contiguous() for name, w in model.state_dict().items()}
    check_weights(weights, twin, "model")
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    fits = not folder.exists() or (folder.is_dir() and present <= {CONFIG, WEIGHTS})
    require(fits, "folder", "a new folder, or one that arcore.save wrote", str(folder))
    with _replacing(folder) as partial:
        save_file({name: w.clone() for name, w in weights.items()}, partial / WEIGHTS)
        write_config(model, partial)
        shutil.copymode(partial / CONFIG, partial / WEIGHTS)  # by the umask; safetensors' is 0600


def write_config(model: AutoregressiveModel, folder: str | os.PathLike[str]) -> None:
    """Write `config.json` alone, for a folder whose `model.safetensors` something else writes.

    The model's weights are not read, so that it may be on the meta device.
    """
    text = json.dumps(describe(model), indent=2, allow_nan=False) + "\n"
    path = Path(folder, CONFIG)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def describe(model: AutoregressiveModel) -> dict[str, Any]:
    """Return what `config.json` says: format, name, event, hyperparameters, dtype."""
    name = _known_name(model)
    for member in model.members if isinstance(model, Combination) else ():
        require(_known_name(member) not in COMBINATIONS, "model", EXPECTED, type(member).__name__)
    return {
        "format": FORMAT,
        "name": name,
        "event": model.event.to_dict(),
        "hyperparameters": model.hyperparameters.to_dict(),
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def _known_name(model: nn.Module) -> str:
    name = name_of(type(model))
    if name is None:
        raise ValueError(f"model: expected {EXPECTED}, got {type(model).__name__!r}")
    return name


def load(
    folder: str | os.PathLike[str], device: torch.device | str | int | None = None
) -> AutoregressiveModel:
    """Load a model that `save`, or a training of the pipeline, wrote; it is in evaluation mode.

    Arguments:
        folder: with `config.json` and `model.safetensors`; or "hub:NAME" (`arcore.hub.fetch`), or
            "models:/NAME@ALIAS" (`arcore.hub.fetch_registered`).
        device: to put it on; None for the CPU.

    Raises:
        ValueError: naming the folder or file that is missing, damaged, of another format,
            architecture, shape or dtype, or of weights that are not finite; or naming the device,
            if it is not here.
    """
    place = _present(device)
    require(isinstance(folder, str | os.PathLike), "folder", "a path or a name", folder)
    if isinstance(folder, str) and folder.startswith(hub.PREFIX):
        folder = hub.fetch(folder)
    elif isinstance(folder, str) and folder.startswith(hub.REGISTERED):
        folder = hub.fetch_registered(folder)
    folder = Path(folder)
    _require_weights(folder)
    config = _read_config(folder / CONFIG)
    model = create_within(folder / WEIGHTS, lambda: _create(config, str(folder / CONFIG)))
    load_weights(model, folder / WEIGHTS)
    return model.to(place).eval()


def _require_weights(folder: Path) -> None:
    """Refuse a folder that is not there, and a record of `results/` without weights."""
    if not folder.exists():
        raise ValueError(f"{folder}: expected a model's folder, got no such folder")
    if (folder / "training.json").is_file() and not (folder / WEIGHTS).exists():
        how = f"train it: python -m stages.train {folder.name}"
        raise ValueError(f"{folder}: expected {WEIGHTS}, got a record without weights; {how}")


def create_within(path: str | os.PathLike[str], create: Callable[[], Created]) -> Created:
    """Create a model on the CPU, unless its config says that it is far larger than its weights.

    It is created on the meta device first, which allocates nothing, and counted against the header
    of the safetensors file at `path`. A little more is let through, so that `load_weights` can say
    how it differs.
    """
    from safetensors import SafetensorError, safe_open

    _require_no_pipe(Path(path))
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            held = sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from None
    with _no_larger_than(held, len(names), Path(path).name), torch.device("meta"):
        create()
    with torch.device("cpu"):
        return create()


@contextmanager
def _no_larger_than(held: int, tensors: int, file: str) -> Iterator[None]:
    """Refuse to make, by this thread, parameters of many more numbers than a file holds."""
    most = held + PER_TENSOR * tensors + SLACK
    thread, made = threading.get_ident(), 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal made
        if threading.get_ident() == thread:
            made += PER_TENSOR + parameter.numel()
            expected = f"a model of the {held:,} numbers of {file}"
            require(made <= most, "hyperparameters", expected, f"beyond {made:,}")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _present(device: torch.device | str | int | None) -> torch.device | str | int:
    """Check that a device is here; None is the CPU."""
    place = "cpu" if device is None else device
    try:
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # what torch says of an unknown or absent one
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"device: expected one that is here, got {device!r}: {reason}") from None
    return place


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a safetensors file into a model, or another module, of its architecture and dtype.

    Raises:
        ValueError: naming the file, as for `load`.
    """
    weights = _read_weights(Path(path))
    check_weights(weights, model, str(path))
    if isinstance(model, Combination) and "weights" in weights:  # an ensemble has none
        require_weights(weights["weights"], model, f"{path}: weights")
    model.load_state_dict(weights)


def _create(config: Mapping[str, Any], where: str) -> AutoregressiveModel:
    """Create the model of a config, with any weights; torch's generator stays where it is."""
    try:
        event = events.from_dict(config["event"])
        with torch.random.fork_rng(devices=[]):
            model = create_model(config["name"], event, **config["hyperparameters"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{where}: not a model of this arcore: {error}") from None
    return model.to(DTYPES[config["dtype"]])


def _require_no_pipe(path: Path) -> None:
    """Refuse what is there and no file: a pipe waits for whoever writes to it."""
    require(path.is_file() or not path.exists(), str(path), "a file", "another thing")


def read_object(path: Path, kind: str, owner: str) -> dict[str, Any]:
    """Read a JSON file of this format, which a ValueError names with its kind and owner."""
    _require_no_pipe(path)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: expected a {owner}'s {kind}, got {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from None
    is_mapping = isinstance(config, dict)
    found = config.get("format") if is_mapping else config
    fits = is_mapping and type(found) is int and found == FORMAT
    require(fits, str(path), f"a {kind} of format {FORMAT}", found)
    return dict(config)


def _read_config(path: Path) -> dict[str, Any]:
    config = read_object(path, "config", "model")
    for key, kind in (("name", str), ("event", dict), ("hyperparameters", dict), ("dtype", str)):
        got = config.get(key)
        require(isinstance(got, kind), f"{path}: {key}", f"a {kind.__name__}", got)
    fits = config["dtype"] in DTYPES
    require(fits, f"{path}: dtype", f"one of {', '.join(DTYPES)}", config["dtype"])
    return config


def _read_weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path}: not a readable safetensors file: {error}") from None


def check_weights(weights: Mapping[str, Tensor], model: nn.Module, where: str) -> None:
    """Check that weights fit an architecture by name and shape, and are finite.

    Raises:
        ValueError: naming `where` and the first weight that is missing, left over, of another shape
            or dtype, or not finite.
    """
    wanted = model.state_dict()
    for name in sorted(wanted.keys() | weights.keys()):
        if name not in weights or name not in wanted:
            lacking = "the file" if name not in weights else "the model"
            raise ValueError(
                f"{where}: weights of another architecture: {name} is not in {lacking}"
            )
        expected, got = wanted[name], weights[name]
        for what in ("shape", "dtype"):
            want, have = str(getattr(expected, what)), str(getattr(got, what))
            if want != have:
                raise ValueError(f"{where}: {what} of {name}: expected {want}, got {have}")
        finite = not got.is_floating_point() or bool(got.isfinite().all())
        require(finite, f"{where}: {name}", "finite weights", "NaN or infinity")


def _require_rebuilt(model: AutoregressiveModel, twin: AutoregressiveModel) -> None:
    """Refuse views of a model, such as a member under its own mask or ordering."""
    seen = copy.deepcopy(model).cpu().eval()
    seen._rebuild()  # forgets what belongs to a training step
    saved = twin.state_dict().keys()  # they need not be the same
    again, buffers = (
        {
            name: buffer
            for name, buffer in one.named_buffers(remove_duplicate=False)  # a member twice
            if name not in saved
        }
        for one in (twin.eval(), seen)
    )
    same = again.keys() == buffers.keys() and all(
        torch.equal(again[name], buffers[name]) for name in again
    )
    expected = "a model that its hyperparameters rebuild (load the whole model, then take a member)"
    require(same, "model", expected, "one under another mask or ordering")


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty sibling that becomes `folder` when the block ends well."""
    folder = Path(os.path.realpath(folder))  # what a link leads to is replaced, not the link
    fits = not Path.cwd().is_relative_to(folder)
    require(fits, "folder", "one that the working directory is not in", folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex
    partial, old = (folder.with_name(f".{folder.name}.{token}.{s}") for s in ("partial", "old"))
    partial.mkdir()
    try:
        yield partial
        while True:
            with suppress(FileNotFoundError):  # another process moved it away
                os.replace(folder, old)
            try:
                os.replace(partial, folder)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            shutil.rmtree(old, ignore_errors=True)  # another process put one there since
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
