"""Tests that start Ray in their own process, run in one where nothing else has used Ray.

Ray keeps a token of authentication as long as its process lives, and others' tests bring their own.
"""

import subprocess
import sys

import pytest

from tests.places import ROOT

FILES = (
    "tests/pipeline/cluster/test_distributed_decoding.py",
    "tests/pipeline/cluster/test_worker_pool.py",
    "tests/pipeline/evaluation/test_spreading.py",
    "tests/pipeline/training/test_two_workers.py",
)


@pytest.mark.timeout(800)
@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_what_starts_ray_itself(which: str) -> None:
    marks = f"own_process and {which}"
    command = [sys.executable, "-m", "pytest", "-n", "0", "-m", marks, *FILES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
