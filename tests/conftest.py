"""Fixtures that every test shares."""

from __future__ import annotations

import ctypes
import gc
import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml

if TYPE_CHECKING:
    from tests.support.measured_files import MeasuredFiles
    from tests.support.projects import Project

LONGEST = (
    "tests/stages/test_faults.py",
    "tests/stages/test_end_to_end.py",
    "tests/stages/test_tune_faults.py",
    "tests/stages/test_own_process.py",
    "tests/stages/test_code.py",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--first-cases", action="store_true", help="the first case of each test alone")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Leave modules and thousands of tests out of every later search for garbage."""
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def parameters_of(item: pytest.Item) -> dict[str, Any]:
    found: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return found


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Alternate files whose tests mostly wait for other processes with files that compute.

    Workers that take one file after the other keep the cores busy so; the longest come first.
    """
    if config.getoption("first_cases"):
        first: dict[str, pytest.Item] = {}
        for item in items:
            first.setdefault(item.nodeid.partition("[")[0], item)
        items[:] = first.values()
        for parameters in map(parameters_of, items):
            if "cases" in parameters:
                parameters["cases"] = parameters["cases"][:1]
    files: dict[str, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    waits = [name for name in LONGEST if name in files]
    waits += [name for name in files if name.startswith("tests/stages/") and name not in waits]
    sizes = {
        name: sum(len(parameters_of(item).get("cases", [0])) for item in found)
        for name, found in files.items()
    }
    computes = sorted(files.keys() - waits, key=lambda name: (-sizes[name], name))
    pairs = itertools.zip_longest(waits, computes)
    items[:] = [item for pair in pairs for name in pair if name for item in files[name]]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from threads, and the suite may share its machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def returned_memory() -> Iterator[None]:
    """Give what a file's tests freed back to the system, which glibc keeps otherwise."""
    yield
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20110411)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store whose schema is built once."""
    from pipeline.tracking import mlflow_store

    path = tmp_path_factory.getbasetemp() / "migrated.db"
    mlflow_store.init_store(f"sqlite:///{path}")
    return path


SETTINGS = (
    "ARCORE_HOME", "ARCORE_CLUSTER", "ARCORE_MIRROR", "ARCORE_STORAGE", "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI", "RAY_ADDRESS", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY",
)  # fmt: skip


def empty(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Work in a folder, without settings from the environment."""
    patch.chdir(folder)
    for name in SETTINGS:
        patch.delenv(name, raising=False)


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no settings from the environment."""
    empty(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture
def home(workdir: Path, migrated: Path) -> Path:
    """A working directory with an empty MLflow store."""
    (workdir / "mlflow.db").write_bytes(migrated.read_bytes())
    return workdir


@pytest.fixture
def files(home: Path) -> MeasuredFiles:
    """A function object that writes measured files into an empty working directory."""
    from tests.support.measured_files import MeasuredFiles  # which imports the pipeline

    return MeasuredFiles()


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/raw and data/shards of digits_binary."""
    from pipeline.data import fetching, preprocessing
    from pipeline.datasets import catalog

    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        empty(patch, folder)
        dataset = catalog.get_dataset({"name": "digits_binary"})
        fetching.fetch(dataset)
        preprocessing.preprocess(dataset)
    return folder


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables with which this checkout's stages find a process that has their imports."""
    from tests.support.projects import Project

    with Project(tmp_path_factory.mktemp("warm")).warmed() as variables:
        yield variables


@pytest.fixture(scope="session")
def make_project(
    tmp_path_factory: pytest.TempPathFactory, digits: Path, migrated: Path
) -> Callable[[dict[str, Any]], Project]:
    """A function from the experiments of params.yaml to a new project."""

    from tests.support.projects import Project

    def make(experiments: dict[str, Any]) -> Project:
        folder = tmp_path_factory.mktemp("project")
        shutil.copytree(digits / "data", folder / "data")
        shutil.copy(migrated, folder / "mlflow.db")
        params = {"datasets": ["digits_binary"], "experiments": experiments}
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        return Project(folder)

    return make
