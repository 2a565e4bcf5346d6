"""Two users of one Ray and one storage: neither spoils what the other does."""

import time

import pytest

from tests.support.clusters import ClusterProject
from tests.support.hosts import end
from tests.support.projects import LONG, WIDE, result

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]
OTHER = WIDE | {"trainer": WIDE["trainer"] | {"max_epochs": 4, "batch_size": 10, "seed": 1}}


def require_finished(project: ClusterProject) -> None:
    (run,) = project.runs()
    assert run.info.status == "FINISHED"


def test_the_same_training_is_refused_and_another_goes_on_beside(cluster_project) -> None:
    first = cluster_project({"wide": LONG})
    second = cluster_project({"wide": LONG, "other": OTHER})
    workers = first.overrides  # of both, on one storage
    process = first.start("train", "wide", *workers)
    try:
        first.wait_until(
            lambda: process.poll() is not None or "epoch 1/" in first.log(), "epoch 1 is done"
        )
        assert process.poll() is None, first.log()
        began = time.monotonic()
        refused = second.stage("train", "wide", *workers)
        assert refused.returncode == 1 and time.monotonic() - began < 60
        line = second.own(refused.stderr).splitlines()[-1]
        assert line.startswith(
            "error: training wide: expected to be alone, got another process of"
        ), line
        assert "Traceback" not in second.own(refused.stderr)
        assert second.runs() == [], "what is refused leaves no run"
        beside = second.stage("train", "other", *workers)
        assert beside.returncode == 0, beside.stderr
        require_finished(second)
        assert process.wait(timeout=300) == 0, first.log()
    finally:
        end(process)
    assert "resumes" not in first.log()
    require_finished(first)
    again = second.stage("train", "wide", *workers)
    assert again.returncode == 0, again.stderr
    assert result(second) == result(first), "what the first left disturbs nothing"
    assert not list((first.folder / "storage").glob("**/checkpoint_*"))
