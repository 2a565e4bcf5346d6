"""The sum of decoded rows on record, which says whether another machine decodes what this one did.

A library of images or a simulator may round otherwise; then numbers are of other data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from pipeline.core.errors import UserError
from pipeline.datasets.base import SplitData


def check_content(name: str, parts: Iterable[SplitData], expected: str, by: str) -> None:
    """Compare the SHA-256 of decoded rows, each part's labels after its rows, with a recorded one.

    Arguments:
        name: of the dataset.
        parts: in the order of the record.
        expected: the recorded sum, in hexadecimal digits.
        by: what decoded them, with versions, for the error.

    Raises:
        UserError: if it is another.

    Example:
        >>> import numpy as np
        >>> rows = SplitData(np.zeros((1, 2), np.uint8))
        >>> check_content("zeros", [rows], "96a2", "numpy 2")
        Traceback (most recent call last):
        ...
        pipeline.core.errors.UserError: zeros: expected decoded rows of sha256 96a2, got \
96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7 by numpy 2
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.x.tobytes())
        if part.labels is not None:
            digest.update(part.labels.astype(part.labels.dtype.newbyteorder("<")).tobytes())
    if digest.hexdigest() != expected:
        raise UserError(
            f"{name}: expected decoded rows of sha256 {expected}, got {digest.hexdigest()} by {by}"
        )
