"""Names of Ray that are not public: all of them, each with why it is needed.

Seen in Ray 2.60.0; look here first when another version fails. No other module
may name such a thing (`tests/structure/test_imports.py`). Libraries are imported on first use.
"""

from typing import Any


def torch_trainer() -> Any:
    """Return TorchTrainer without two of its processes, which Ray has no option to leave out.

    They are the cleaner of orphaned placement groups, which waits for the dashboard that an
    embedded Ray does not start (our groups end with the driver), and the manager of Ray's own
    datasets, which we do not use.
    """
    from ray.train.torch import TorchTrainer

    unused = ("PlacementGroupCleanerCallback", "DatasetsCallback")

    class Trainer(TorchTrainer):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[object]:
            callbacks = super()._create_default_callbacks()
            return [c for c in callbacks if type(c).__name__ not in unused]

    return Trainer
