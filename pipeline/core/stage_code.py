"""The code that a stage runs, as one hash, which hosts and files of the same code share."""

from __future__ import annotations

import functools
import hashlib
import platform
from pathlib import Path

from pipeline.core import dependencies
from pipeline.core.errors import SiteError, UserError
from pipeline.core.import_closure import Checkout

CODE = Path(__file__).parents[2]  # the folder of arcore, pipeline and stages


class Disagreement(SiteError):
    """A worker's host has other code or shards than its work is of."""


@functools.cache
def stage_sha256(stage: str, model: str | None = None) -> str | None:
    """Hash the code that a stage needs, without comments and docstrings.

    None where the source is not at hand.

    Arguments:
        stage: a module of `stages`.
        model: the one that it makes; None for any.
    """
    try:
        checkout = Checkout(CODE, dependencies.PACKAGES)
        chosen = {} if model is None else {dependencies.MODELS: model}
        files = checkout.closure(f"stages.{stage}", chosen=chosen)
    except (OSError, UserError):
        return None
    lines = "".join(f"{dependencies.hash_of(CODE / file)}  {file}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def check_host(wanted: str | None, got: str | None) -> None:
    """Check that this host, a worker's, has the driver's code, where both hashes are known.

    Raises:
        Disagreement: naming the host, whose results would be of another program.
    """
    if None not in (wanted, got) and wanted != got:
        raise Disagreement(
            f"{platform.node()}: expected the code of the driver ({str(wanted)[:12]}), got other "
            f"code ({str(got)[:12]}); check the same commit out on all hosts"
        )
