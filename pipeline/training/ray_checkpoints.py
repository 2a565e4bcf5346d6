"""Ray Train's list of checkpoints, repaired where a kill left it half written."""

from __future__ import annotations

import logging

import pyarrow.fs

from pipeline.core import private_apis

log = logging.getLogger(__name__)
SNAPSHOT = "checkpoint_manager_snapshot.json"


def repair_snapshot(filesystem: pyarrow.fs.FileSystem, folder: str) -> None:
    """Repair Ray Train's list of a folder's checkpoints, which a kill may leave half written.

    Ray Train refuses a list that it cannot read or that names what is gone. The new one names what
    is there; workers fall back from a checkpoint that is not whole. So it does for a training that
    began in a stage's own process, which leaves no list.
    """
    selector = pyarrow.fs.FileSelector(folder, allow_not_found=True)
    found = {info.base_name: info for info in filesystem.get_file_info(selector)}
    there = sorted(name for name in found if name.startswith("checkpoint_2"))
    snapshot = f"{folder}/{SNAPSHOT}"
    if SNAPSHOT not in found:
        if there:
            _write(filesystem, snapshot, there)
        return
    try:
        with filesystem.open_input_stream(snapshot) as stream:
            listed = private_apis.read_checkpoint_list(stream.read())
        if there and there[-1] not in listed:  # written since in a stage's own process
            _write(filesystem, snapshot, there)
            return
        if all(name in there for name in listed):
            return
    except private_apis.ListIsDamaged:
        pass
    log.warning("warning: %s: damaged list of checkpoints, trying those that are there", folder)
    if not there:
        filesystem.delete_file(snapshot)
        return
    _write(filesystem, snapshot, there)


def _write(filesystem: pyarrow.fs.FileSystem, snapshot: str, folders: list[str]) -> None:
    with filesystem.open_output_stream(snapshot) as stream:
        stream.write(private_apis.write_checkpoint_list(folders))
