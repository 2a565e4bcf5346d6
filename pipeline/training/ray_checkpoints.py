"""Ray Train's list of checkpoints, repaired where a kill left it half written."""

from __future__ import annotations

import logging

import pyarrow.fs

log = logging.getLogger(__name__)
SNAPSHOT = "checkpoint_manager_snapshot.json"


def repair_snapshot(filesystem: pyarrow.fs.FileSystem, folder: str) -> None:
    """Mend Ray Train's list of the checkpoints in a folder, which a kill may leave half written.

    Ray Train refuses a list that it cannot read or that names what is gone. The new one names what
    is there; workers fall back from a checkpoint that is not whole.
    """
    from ray.train.v2._internal.execution.checkpoint import checkpoint_manager as ray_manager

    selector = pyarrow.fs.FileSelector(folder, allow_not_found=True)
    found = {info.base_name: info for info in filesystem.get_file_info(selector)}
    if SNAPSHOT not in found:
        return
    snapshot = found.pop(SNAPSHOT).path
    there = sorted(name for name in found if name.startswith("checkpoint_"))
    try:
        with filesystem.open_input_stream(snapshot) as stream:
            state = ray_manager._CheckpointManagerState.parse_raw(stream.read())
        if all(result.checkpoint_dir_name in there for result in state.checkpoint_results):
            return
    except ValueError:
        pass
    log.warning("warning: %s: damaged list of checkpoints, trying those that are there", folder)
    if not there:
        filesystem.delete_file(snapshot)
        return
    results = [
        ray_manager._TrainingResultState(checkpoint_dir_name=name, metrics={}) for name in there
    ]
    state = ray_manager._CheckpointManagerState(
        checkpoint_results=results,
        checkpoint_report_indices=list(range(len(results))),
        latest_checkpoint_result=results[-1],
        pending_training_results=[],
        pending_validation_specs=[],
        current_report_index=len(results),
        validated_checkpoint_dir_names=[],
        timed_out_validation_checkpoint_dir_names=[],
        failed_validation_checkpoint_dir_names=[],
    )
    with filesystem.open_output_stream(snapshot) as stream:
        stream.write(state.json().encode())
