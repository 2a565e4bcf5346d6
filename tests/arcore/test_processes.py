"""A process of its own: what it imports, memory that a tuned one keeps, and two of them at DDP."""

import json
import subprocess
import sys
import tomllib

import pytest
import torch.distributed as dist

import arcore
from tests.places import ROOT

SCRIPT = """
import arcore, importlib.metadata, json, os, resource, sys

version, importlib.metadata.version = importlib.metadata.version, None  # as if nobody installed it
from arcore.models import RNADE
imported = [arcore.__version__, [name for name in sys.modules if name.startswith("arcore.models.")]]
importlib.metadata.version = version

def faults():
    bytearray(32 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        bytearray(32 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(json.dumps([*imported, faults(), arcore.tune_process() or faults()]), flush=True)

import torch._dynamo  # as DistributedDataParallel does when it is made
from tests.support.distributed import main

if torch.distributed.is_gloo_available():
    child = os.fork()  # so that two workers import once
    main(int(child > 0), sys.argv[1])
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], list[str]]:
    """What the first process prints, and the models that both of them are through with."""
    store = tmp_path_factory.mktemp("store") / "store"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(store)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *models = done.stdout.splitlines()
    return json.loads(first), models


def test_the_version_is_the_checkouts_and_a_class_imports_no_other_model(printed) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert arcore.__version__ == project["version"]
    assert printed[0][:2] == [project["version"], ["arcore.models.rnade"]]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_freed_memory_is_not_faulted_in_again(printed) -> None:
    """Eight times 32 MB are 65,536 pages of 4 kB."""
    left, kept = printed[0][2:]
    assert kept < 100 < left


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_workers_share_the_mean_gradient(printed) -> None:
    assert sorted(printed[1]) == sorted(2 * arcore.list_models())
