"""One Ray for all stages of a command."""

from __future__ import annotations

import subprocess
import sys

TWICE = """
import sys
from pipeline.cluster import connection
with connection.connected():
    import ray
    print(connection.address(), ray.get(ray.remote(lambda: 6 * 7).remote()))
sys.exit(3)
"""


def with_ray(*command: str) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, "-m", "stages.with_ray", *command]
    return subprocess.run(given, capture_output=True, text=True, check=False)


def test_a_command_gets_ray_and_leaves_its_status():
    done = with_ray(sys.executable, "-c", TWICE)
    assert done.returncode == 3, done.stderr
    address, value = done.stdout.split()
    assert address.startswith("127.0.0.1:") and value == "42"


def test_a_command_is_needed():
    done = with_ray()
    assert done.returncode == 2
    assert "expected a command and its arguments" in done.stderr
