"""Names of Ray, MLflow and torch that are not public: all of them, each with why it is needed.

Seen in Ray 2.60.0 and MLflow 3.17.2; look here first when another version fails. No other module
may name such a thing (`tests/structure/test_imports.py`). Libraries are imported on first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

NAMESPACE = "arcore"
_OWNER, _GROUP = "owner", "group/"

# Tables and columns of MLflow's SQL store that hold absolute places of artifacts. MLflow has no
# way to move a store.
ARTIFACT_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


class ListIsDamaged(Exception):
    """Ray Train's list of checkpoints cannot be read."""


def put_flag(key: str) -> None:
    """Set a flag that every process of the cluster can see.

    Ray's key-value store is the only state of a cluster that outlives no job, needs no process of
    its own, and can be asked within a training step; the public way would be an actor.
    """
    from ray.experimental import internal_kv

    internal_kv._internal_kv_put(key, b"1", overwrite=True, namespace=NAMESPACE)


def has_flag(key: str) -> bool:
    """Tell whether a flag is set."""
    from ray.experimental import internal_kv

    return bool(internal_kv._internal_kv_exists(key, namespace=NAMESPACE))


def group_keeper(prefix: str, owner: str) -> Any:
    """Return a callback of Ray Train that notes placement groups for `own_groups`.

    It refuses to reserve anything once another owns the prefix: a trainer whose trial was stopped
    lives on for some seconds, and takes the loss of its workers for a fault to recover from.
    """
    from ray.experimental import internal_kv
    from ray.train.v2._internal.execution.callback import WorkerGroupCallback

    class Keeper(WorkerGroupCallback):  # type: ignore[misc]
        def before_worker_group_start(self, worker_group_context: object) -> None:
            found = internal_kv._internal_kv_get(prefix + _OWNER, namespace=NAMESPACE)
            if found != owner.encode():
                raise RuntimeError(f"{prefix}: another trainer has this training's place")

        def after_worker_group_start(self, worker_group: Any) -> None:
            handle = worker_group.get_worker_group_state().placement_group_handle
            put_flag(prefix + _GROUP + str(handle.placement_group.id.hex()))

    return Keeper()


def own_groups(prefix: str, owner: str = "") -> None:
    """Let one trainer alone reserve under a prefix, none without a name; remove what others have.

    Ray removes a placement group at the end of the job, or when its trainer ends by itself, but
    not when its trainer dies; and Ray Train's own cleaner asks the dashboard (below).
    """
    from ray import PlacementGroupID
    from ray.experimental import internal_kv
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    internal_kv._internal_kv_put(prefix + _OWNER, owner, overwrite=True, namespace=NAMESPACE)
    for key in internal_kv._internal_kv_list(prefix + _GROUP, namespace=NAMESPACE):
        name = bytes(key).decode()
        group = PlacementGroupID.from_hex(name.removeprefix(prefix + _GROUP))
        remove_placement_group(PlacementGroup(group))
        internal_kv._internal_kv_del(name, namespace=NAMESPACE)


def forget_owners(prefix: str) -> None:
    """Remove what the functions above have noted under a prefix."""
    from ray.experimental import internal_kv

    internal_kv._internal_kv_del(prefix, del_by_prefix=True, namespace=NAMESPACE)


def torch_trainer() -> Any:
    """Return TorchTrainer without the cleaner of orphaned placement groups and without its SIGINT.

    The cleaner asks Ray's dashboard, which an embedded Ray does not start, and waits for it; our
    placement groups end with the driver, those of trials by `own_groups`. At SIGINT it would
    abort without a checkpoint and exit with 0. Ray has no option to leave either out.
    """
    from ray.train.torch import TorchTrainer

    class Trainer(TorchTrainer):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[object]:
            callbacks = super()._create_default_callbacks()
            return [c for c in callbacks if type(c).__name__ != "PlacementGroupCleanerCallback"]

        def _register_sigint_handler(self, controller: object) -> None:
            """Leave the signal to `pipeline.cluster.connection.on_signal`."""

    return Trainer


def read_checkpoint_list(content: bytes) -> list[str]:
    """Return the folders that Ray Train's list of checkpoints names.

    Ray Train writes the list in place, so that a kill may leave half of it, and refuses to start
    then. It has no public reader.

    Raises:
        ListIsDamaged: for what Ray Train could not read either.
    """
    from ray.train.v2._internal.execution.checkpoint import checkpoint_manager

    try:
        state = checkpoint_manager._CheckpointManagerState.parse_raw(content)
    except ValueError as error:
        raise ListIsDamaged(str(error)) from None
    return [str(result.checkpoint_dir_name) for result in state.checkpoint_results]


def write_checkpoint_list(folders: Sequence[str]) -> bytes:
    """Return a list of checkpoints, oldest first, as Ray Train reads it; see the function above."""
    from ray.train.v2._internal.execution.checkpoint import checkpoint_manager

    results = [
        checkpoint_manager._TrainingResultState(checkpoint_dir_name=name, metrics={})
        for name in folders
    ]
    state = checkpoint_manager._CheckpointManagerState(
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
    return bytes(state.json().encode())


def dispose_engine(store: Any) -> None:
    """Close the connections of MLflow's SQL store, whose file is about to be renamed."""
    store._dispose_engine()


def has_avx512_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16, as older torch can be asked."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported())
