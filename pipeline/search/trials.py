"""The trials of a search: their records, a JSON file each, from which an interrupted one goes on.

They are in the folder of the search in the storage. Ray Tune writes files of its own next to them,
pickles among them, which nothing here reads.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.core import stage_code, storage
from pipeline.core.errors import UserError, one_line, require
from pipeline.core.records import Record, omit_if_default, parse_object
from pipeline.core.redaction import redacted
from pipeline.search.space import FLOATS
from pipeline.search.spec import Search
from pipeline.training.training_records import EpochRecord

log = logging.getLogger(__name__)
FOLDER = "trials"
STATUSES = ("finished", "stopped", "failed", "unfinished")


@dataclass(frozen=True, kw_only=True)
class TrialRecord(Record):
    """A trial of a search.

    Attributes:
        number: from 1, in the order of their creation.
        status: finished (all its epochs), stopped (early, by the scheduler or the time budget),
            failed (see problem), or unfinished (it runs, or the search was interrupted).
        lost: whether it failed with its process rather than by itself, so that it may be tried
            again.
        sampling_seconds: of drawing samples, where that is an objective too; None without.
        code_sha256: hash of the code that began it; None where that is not known.
    """

    number: int
    status: str
    values: Mapping[str, object]
    history: tuple[EpochRecord, ...] = ()
    problem: str = ""
    lost: bool = False
    sampling_seconds: float | None = omit_if_default(None)
    code_sha256: str | None = omit_if_default(None)

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to train."""
        return self.status != "unfinished"

    @property
    def value(self) -> float:
        """Lowest validation nats, inf if it has none."""
        failed = self.status == "failed" or not self.history
        return math.inf if failed else self.history[-1].best_valid_nats

    @property
    def objectives(self) -> tuple[float, ...]:
        """The value, and the seconds of sampling if they are measured, inf if it has none."""
        if self.sampling_seconds is None:
            return (self.value,)
        return self.value, self.sampling_seconds

    @property
    def epochs(self) -> int:
        """Epochs that it trained; 0 if it failed."""
        return self.history[-1].epoch if self.history and self.status != "failed" else 0

    @property
    def seconds(self) -> float:
        """Seconds that it trained."""
        return round(self.history[-1].seconds, 1) if self.history else 0.0

    def reported(self, newest: EpochRecord) -> TrialRecord:
        """Return the record after one more epoch; one that is reported again counts once."""
        if newest in self.history:
            return self
        before = tuple(row for row in self.history if row.epoch < newest.epoch)
        return dataclasses.replace(self, history=(*before, newest))


class TrialRecords:
    """All records of a search, here and in its folder or URI."""

    def __init__(self, search: Search, place: str) -> None:
        self.search, self.place = search, place
        self.code_sha256 = stage_code.code_sha256("tune", str(search.base.model["name"]))
        self._found: dict[int, TrialRecord] = {}
        self._failing = False

    def read(self) -> None:
        """Read what an interrupted search left; one that failed with its process runs again."""
        names = storage.names(storage.join(self.place, FOLDER))
        for name in sorted(name for name in names if re.fullmatch(r"\d+\.json", name)):
            place = storage.join(self.place, FOLDER, name)
            where = redacted(place)
            record = TrialRecord.from_dict(parse_object(storage.read_bytes(place), where), where)
            _require_valid(record, self.search, where)
            code, own = record.code_sha256, self.code_sha256
            if None not in (code, own) and code != own:
                raise UserError(
                    f"{where}: expected a trial of this code ({str(own)[:8]}), got one of other "
                    f"code ({str(code)[:8]}); check that out again, or begin again: --fresh "
                    "forgets it"
                )
            if record.lost:
                record = dataclasses.replace(record, status="unfinished", problem="", lost=False)
            self._found[record.number] = record

    def __getitem__(self, number: int) -> TrialRecord:
        return self._found[number]

    def all(self) -> list[TrialRecord]:
        """Return the records there are, by number."""
        return [self._found[number] for number in sorted(self._found)]

    def begin(self, number: int, values: Mapping[str, object]) -> TrialRecord:
        """Keep a trial that starts, unless it goes on; return its record."""
        if number not in self._found:
            code = self.code_sha256
            self.keep(
                TrialRecord(number=number, status="unfinished", values=values, code_sha256=code)
            )
        return self[number]

    def keep(self, record: TrialRecord) -> None:
        """Keep a record; a storage that is away for a while costs a warning, not the search."""
        self._found[record.number] = record
        where = storage.join(self.place, FOLDER, f"{record.number:06d}.json")
        try:
            storage.write_bytes(where, (json.dumps(record.to_dict()) + "\n").encode())
            self._failing = False
        except (UserError, OSError) as error:
            if not self._failing:
                what = "warning: %s: cannot keep trials: %s"
                log.warning(what, self.search.name, one_line(error))
            self._failing = True


def _require_valid(record: TrialRecord, search: Search, where: str) -> None:
    """Check that a record is one of a search; Optuna may draw the upper end of a range."""
    wanted = f"an integer in 1..{search.total}"
    require(1 <= record.number <= search.total, f"{where}: number", wanted, record.number)
    require(record.status in STATUSES, f"{where}: status", f"one of {STATUSES}", record.status)
    for parameter in search.space:
        value = record.values.get(parameter.name)
        is_end = type(value) is float and parameter.kind in FLOATS and value == parameter.values[1]
        kind = f"a value of {parameter.kind} {list(parameter.values)}"
        fits = is_end or parameter.contains(value)
        require(fits, f"{where}: values.{parameter.name}", kind, value)
    others = sorted(record.values.keys() - {parameter.name for parameter in search.space})
    require(not others, f"{where}: values", "those of the space", others)


def best(table: Sequence[TrialRecord]) -> TrialRecord:
    """Return the trial of the lowest validation nats."""
    found = min(table, key=lambda row: row.value, default=None)
    if found is None or not math.isfinite(found.value):
        problems = sorted({row.problem for row in table if row.problem})
        why = "; ".join(problems) or "they were stopped before"
        raise UserError(f"none of {len(table)} trials gave a finite validation value: {why}")
    return found


def front(table: Sequence[TrialRecord]) -> tuple[int, ...]:
    """Return the numbers of the trials that none beats in both objectives, by rising nats."""
    places = [(*row.objectives, row.number) for row in table if row.sampling_seconds is not None]
    kept: list[int] = []
    fastest = math.inf
    for nats, seconds, number in sorted(places):
        if nats < math.inf and seconds < fastest:
            kept, fastest = [*kept, int(number)], seconds
    return tuple(kept)


def checkpoints_of(place: str, number: int) -> str:
    """Return where in a search's place the checkpoints of a trial are, in every attempt at it."""
    return storage.join(place, f"train-{number:06d}")
