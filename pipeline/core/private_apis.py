"""Names of Ray, MLflow and torch that are not public: all of them, each with why it is needed.

Seen in Ray 2.60.0 and MLflow 3.17.2; look here first when another version fails. No other module
may name such a thing (`tests/structure/test_imports.py`). Libraries are imported on first use.
"""

from typing import Any
from unittest import mock


def torch_trainer(in_driver: bool) -> Any:
    """Return TorchTrainer without processes that we have no use for, which Ray has no options for.

    They are the cleaner of orphaned placement groups, which waits for Ray's dashboard (ours end
    with the driver), and the manager of Ray's own datasets. With the controller `in_driver`, its
    process goes too, and those of autoscaling and of what workers report, which ours never do.
    """
    import asyncio

    from ray.runtime_context import RuntimeContext
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.execution.controller import TrainController
    from ray.train.v2._internal.execution.worker_group import state, worker_group

    unused = ("PlacementGroupCleanerCallback", "DatasetsCallback")

    class Trainer(TorchTrainer):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[object]:
            callbacks = super()._create_default_callbacks()
            return [c for c in callbacks if type(c).__name__ not in unused]

        def _initialize_and_run_controller(self, **parts: Any) -> Any:
            if not in_driver:
                return super()._initialize_and_run_controller(**parts)
            for what in ("send", "maybe_send", "cancel"):
                setattr(parts["scaling_policy"], f"_{what}_resource_request", lambda: None)
            with (
                mock.patch.object(RuntimeContext, "current_actor", None),
                mock.patch.object(worker_group, "SynchronizationActor", _Nobody()),
                mock.patch.object(state, "_shutdown_sync_actor", _Nobody().remote),
            ):
                controller = TrainController(**parts)
                asyncio.run(controller.run())
                return controller.get_result()

    return Trainer


class _Nobody:
    """An actor that is never called."""

    def options(self, *_: object, **__: object) -> "_Nobody":
        return self

    remote = options


def leave_out_daemons() -> None:
    """Have an embedded Ray start neither its autoscaler nor the dashboard's server."""
    from ray._private.node import Node

    Node.start_monitor = Node.start_api_server = lambda self, **options: None


def skip_schema_enforcement(signature: Any) -> None:
    """Let MLflow show a signature and hand `predict` its input as it came.

    With enforcement MLflow refuses every dtype but the signature's, and flat rows, in messages that
    print the whole input. MLflow leaves it to a model whose signature comes from type hints.
    """
    signature._is_signature_from_type_hint = True


def has_avx512_bfloat16() -> bool:
    """Tell whether this processor multiplies bfloat16, as older torch can be asked."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported())
