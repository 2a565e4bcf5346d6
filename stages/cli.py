"""What the command lines of all stages share: logging to stderr, and errors in one line."""

import atexit
import errno
import gc
import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.core.errors import UserError, one_line
from pipeline.core.private_files import keep_site_cache_private
from pipeline.core.redaction import Redacting, redacted
from pipeline.repro import warm

# torch's threads spin for up to 10 ms before they sleep, and take the cores from other processes.
# With a tenth of that, steps on idle cores take as long; with a 300th, nearly twice as long.
SPINS = {"GOMP_SPINCOUNT": "30000"}


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; a UserError or an error of the system ends it with one line.

    Where a warm process waits for stages, it runs there.
    """
    module = main.__globals__["__spec__"]  # none of a file that is run by its path
    status = None if module is None else warm.forward(module.name, sys.argv[1:])
    if status is not None:
        sys.exit(status)
    warm.end_with_repro()
    for name, value in SPINS.items():  # before torch is imported; workers inherit it
        os.environ.setdefault(name, value)
    # Imports leave a million objects that stay: collect less often, and not at the end.
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors != "replace":
        sys.stdout.reconfigure(errors="replace")  # where the locale has no "±"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Redacting("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    in_one_line(lambda: _guarded(main))


def _guarded(main: Callable[[], None]) -> None:
    keep_site_cache_private(Path.cwd())
    main()


def in_one_line(main: Callable[[], None]) -> None:
    """Run a script's `main`; a UserError or an error of the system ends it with one line."""
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except UserError as error:
        sys.exit(f"error: {redacted(str(error))}")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = error.filename or "an output"
            sys.exit(f"error: no space left on device while writing {where}")
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {redacted(where)}{error.strerror or one_line(error)}")
    except Exception as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]  # none of which is imported here
        if "MlflowException" in kinds:  # of a store that fails midway, here or behind a server
            sys.exit(f"error: MLflow: {redacted(one_line(error))}")
        if "WeightsError" in kinds:
            sys.exit(f"error: {one_line(error)}")
        if not _is_out_of_memory(error):
            raise
        said = f" ({one_line(error)})" if str(error) else ""
        less = "a smaller batch_size (of preprocess: a smaller rows_per_shard)"
        sys.exit(f"error: out of memory; {less} needs less{said}")


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: of Python, a library or torch, which is not imported here."""
    said = str(error)
    if isinstance(error, MemoryError) or "failed to map segment" in said:  # of a library
        return True
    is_torchs = type(error).__name__ == "OutOfMemoryError" or any(
        words in said for words in ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    )
    return isinstance(error, RuntimeError) and is_torchs
