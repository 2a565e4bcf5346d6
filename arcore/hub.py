"""Weights by name, from a folder, an HTTP address or MLflow's registry, checked by SHA-256.

A hub is a folder of saved models, here or behind an address, with an index, `hub.json`.
"""

import hashlib
import http.client
import json
import os
import re
import uuid
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

from arcore.primitives.checks import near, require

PREFIX, INDEX, REMOTE = "hub:", "hub.json", ("http://", "https://")
REGISTERED = "models:/"  # as MLflow's URIs begin
FILES = ("config.json", "model.safetensors")  # of a model
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")
TIMEOUT = 20.0  # seconds, to connect and between two packets
LARGEST_INDEX = 1 << 24  # bytes


class Unreachable(ValueError):
    """A file that cannot be read now: no network, no such file, no disk."""


def fetch(name: str, hub: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder in the cache that has the verified files of a model.

    The cache is `ARCORE_CACHE`, by default `~/.cache/arcore`; it needs no network.

    Arguments:
        name: of the index, with or without "hub:".
        hub: a folder, or an address beginning with http:// or https://; None for `ARCORE_HUB`.

    Raises:
        ValueError: for an unknown name, with the nearest one, a hub that cannot be read, or a file
            that isn't the one of the index.
    """
    source = str(hub or os.environ.get("ARCORE_HUB", "")).rstrip("/")
    name = name.removeprefix(PREFIX)
    require(source != "", "ARCORE_HUB", f"a folder or an address with {INDEX}", source)
    fits = "@" not in source or not source.startswith(REMOTE)
    require(fits, "ARCORE_HUB", "an address without a user or password", "one with @")
    require(NAME.fullmatch(name) is not None, "name", "letters, digits, '.', '_' and '-'", name)
    if not source.startswith(REMOTE):
        source = str(Path(source).absolute())
    kept = _cache() / hashlib.sha256(source.encode()).hexdigest()[:16]
    try:
        _copy(f"{source}/{INDEX}", kept / INDEX, LARGEST_INDEX, _models)
    except Unreachable as error:
        if not (kept / INDEX).is_file():
            raise
        warnings.warn(f"{error}; takes the index of an earlier time", stacklevel=3)
    files = _entry(kept / INDEX, name)
    folder = kept / f"{name}-{files[FILES[1]]['sha256'][:16]}"
    for file, described in files.items():
        target, sha256 = folder / file, described["sha256"]
        if not _is_there(target, sha256):
            _copy(f"{source}/{name}/{file}", target, described["size"], partial(_verify, sha256))
    return folder


def fetch_registered(uri: str) -> Path:
    """Return the folder in the cache that has the verified files of a version in MLflow's registry.

    It needs mlflow, whose variables name the store.

    Arguments:
        uri: "models:/NAME@ALIAS" or "models:/NAME/VERSION", of what the pipeline registered.

    Raises:
        ValueError: for what isn't in the registry, or isn't what was registered.
    """
    try:
        from mlflow.artifacts import download_artifacts
        from mlflow.models import get_model_info
    except ImportError:
        raise ValueError(f"{uri}: expected mlflow to be installed, got no such package") from None
    try:
        hashes = get_model_info(uri).flavors["python_function"]["config"]["sha256"]
        files = {file: hashes[file] for file in FILES}
        together = hashlib.sha256("".join(files.values()).encode()).hexdigest()
        folder = _cache() / f"mlflow-{together[:16]}"
        with TemporaryDirectory() as scratch:
            for file, sha256 in files.items():
                if not _is_there(folder / file, sha256):
                    place = f"{uri}/artifacts/model/{file}"
                    path = Path(download_artifacts(place, dst_path=scratch))
                    check = partial(_verify, sha256)
                    _copy(str(path), folder / file, path.stat().st_size, check)
    except (KeyError, TypeError):
        raise ValueError(f"{uri}: expected a version that arcore registered, got another") from None
    except ValueError:
        raise
    except Exception as error:  # of MLflow, its store's library, or the network
        raise ValueError(f"{uri}: cannot be read: {_without_secrets(error)}") from None
    return folder


def _without_secrets(error: BaseException) -> str:
    """Return what an error says, on one line, without users and passwords of addresses."""
    said = re.sub(r"//[^/@\s]+@", "//***@", " ".join(str(error).split()))
    return re.sub(r"(?i)(password|token|secret)=[^&\s'\"]+", r"\1=***", said)


def write_index(folder: str | os.PathLike[str]) -> Path:
    """Write `hub.json` of a folder of saved models; it keeps weights that only DVC has."""
    path, models = Path(folder, INDEX), {}
    require(Path(folder).is_dir(), "folder", "a folder of saved models", str(folder))
    for config in sorted(Path(folder).glob(f"*/{FILES[0]}")):
        name, weights = config.parent.name, config.with_name(FILES[1])
        if weights.is_file() and NAME.fullmatch(name):
            models[name] = {
                one.name: {"sha256": sha256_of(one), "size": one.stat().st_size}
                for one in (config, weights)
            }
        elif weights.with_name(f"{FILES[1]}.dvc").is_file():
            models[name] = _entry(path, name)
    unnamed = path.with_name(f".{INDEX}.{uuid.uuid4().hex}")
    unnamed.write_text(json.dumps({"models": models}, indent=1) + "\n", encoding="utf-8")
    os.replace(unnamed, path)
    return path


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cache() -> Path:
    given = os.environ.get("ARCORE_CACHE") or "~/.cache/arcore"
    try:
        return Path(given).expanduser()
    except RuntimeError as error:  # of a user who has no home
        raise ValueError(f"ARCORE_CACHE: expected a folder, got {given!r}: {error}") from None


def _is_there(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _verify(sha256: str, path: Path) -> None:
    if (got := sha256_of(path)) != sha256:
        raise ValueError(f"expected SHA-256 {sha256}, got {got}")


def _models(index: Path) -> dict[str, Any]:
    """Return what an index has of each model."""
    try:
        return dict(json.loads(index.read_text(encoding="utf-8"))["models"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise ValueError(f"not an index of models: {error!r}") from None


def _entry(index: Path, name: str) -> dict[str, dict[str, Any]]:
    """Return SHA-256 and size of each file of a model."""
    try:
        models = _models(index)
        files = {file: models[name][file] for file in FILES if name in models}
        fits = all(SHA256.fullmatch(f["sha256"]) and _is_size(f["size"]) for f in files.values())
    except (KeyError, TypeError) as error:
        raise ValueError(f"{index}: not an index of models: {error!r}") from None
    except ValueError as error:
        raise ValueError(f"{index}: {error}") from None
    require(fits, f"{index}: {name}", "sha256 and size of each file", files)
    if not files:
        expected = f"one of the {len(models)} models of {index}"
        raise ValueError(f"name: expected {expected}, got {name!r}{near(name, models)}")
    return files


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def _copy(address: str, target: Path, most: int, check: Callable[[Path], object]) -> None:
    """Copy a file, which gets its name once it is whole and checked."""
    unnamed = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        is_remote = address.startswith(REMOTE)
        fits = is_remote or not os.path.exists(address) or os.path.isfile(address)
        require(fits, "file", "a plain file", "a folder, pipe or device")
        source = urlopen(address, timeout=TIMEOUT) if is_remote else open(address, "rb")
        with source:
            unnamed.write_bytes(source.read(most + 1))
        check(unnamed)
        os.replace(unnamed, target)
    except (OSError, OverflowError, MemoryError, http.client.HTTPException) as error:
        raise Unreachable(f"{address}: cannot be read: {' '.join(str(error).split())}") from None
    except ValueError as error:
        raise ValueError(f"{address}: {error}") from None
    finally:
        with suppress(OSError):
            unnamed.unlink()
