"""Where the project and, if it is there, the mirror of real data are."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
MIRROR = Path(os.environ.get("ARCORE_MIRROR") or ROOT.parent / "shared" / "data")
