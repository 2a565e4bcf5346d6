"""What a worker must have in common with the driver: the code, and the shards."""

from __future__ import annotations

from pipeline.core import stage_code
from pipeline.core.redaction import redacted
from pipeline.core.stage_code import Disagreement, check_host
from pipeline.data.manifest import read_manifest
from pipeline.training.training_records import TrainingJob


def check(job: TrainingJob) -> None:
    """Check that a worker's host has a job's code and shards, where their hashes are known.

    Raises:
        Disagreement: naming the host of other code, whose gradients would be of another program,
            or the shards that were made again since the job was; no fault of a model's values.
    """
    check_host(job.code_sha256, stage_code.code_sha256("train", str(job.model["name"])))
    wanted, got = job.dataset_sha256, read_manifest(job.shards).sha256
    if wanted not in (None, got):
        raise Disagreement(
            f"{redacted(job.shards)}: expected the shards that this training is of "
            f"({str(wanted)[:12]}), got {got[:12]}, made since; begin it again"
        )
