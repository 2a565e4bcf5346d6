"""The allocator's setting: large temporaries are not faulted in again and again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.places import ROOT

COUNT_FAULTS = """
import resource, sys, threading
import torch
from pipeline.core.allocator import keep_freed_memory

torch.set_num_threads(1)
if sys.argv[1] == "kept":
    assert keep_freed_memory()

def count():
    step = lambda: [torch.ones(size << 18) for size in (3, 5, 20, 45)]
    step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if sys.argv[2] == "main":
    count()
else:
    thread = threading.Thread(target=count)
    thread.start()
    thread.join()
"""


def faults(setting: str, thread: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS, setting, thread],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
@pytest.mark.parametrize("thread", ["main", "other"])
def test_freed_memory_is_kept_for_the_next_step(thread: str) -> None:
    """73 MiB a step are 18,688 pages of 4 KiB; workers train in a thread of their own."""
    usual, kept = faults("usual", thread), faults("kept", thread)
    assert kept < 100 or kept < usual / 20
