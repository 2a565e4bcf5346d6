"""What a worker must have in common with the driver: the code, and the shards."""

from __future__ import annotations

import platform

from pipeline.core import provenance
from pipeline.core.errors import UserError
from pipeline.core.redaction import redacted
from pipeline.data.manifest import read_manifest
from pipeline.training.records import TrainingJob


class Disagreement(UserError):
    """A worker's host has other code or shards than a job is of: no fault of a model's values."""


def check(job: TrainingJob) -> None:
    """Check that a worker's host has a job's code and shards, where their hashes are known.

    Raises:
        Disagreement: naming the host of other code, whose gradients would be of another program,
            or the shards that were made anew since the job was.
    """
    wanted, got = job.code_sha256, provenance.code_sha256("train", str(job.model["name"]))
    if None not in (wanted, got) and wanted != got:
        raise Disagreement(
            f"{platform.node()}: expected the code of the driver ({str(wanted)[:12]}), got other "
            f"code ({str(got)[:12]}); check the same commit out on all hosts"
        )
    wanted, got = job.dataset_sha256, read_manifest(job.shards).sha256
    if wanted not in (None, got):
        raise Disagreement(
            f"{redacted(job.shards)}: expected the shards that this training is of "
            f"({str(wanted)[:12]}), got {got[:12]}, made since; begin it anew"
        )
