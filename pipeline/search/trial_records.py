"""The records of a search under way, from which an interrupted one goes on: a JSON file a trial.

They lie in the folder of the search in the storage. Ray Tune writes files of its own beside them,
pickles among them, which nothing here reads.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.fs

from pipeline.core import provenance, storage
from pipeline.core.errors import UserError, one_line, require
from pipeline.core.records import Record, left_out, parse_object
from pipeline.core.redaction import redacted
from pipeline.search.space import FLOATS, Parameter
from pipeline.search.spec import Search
from pipeline.search.trials import STATUSES, Trial
from pipeline.training.records import EpochRecord, TrainingReport

log = logging.getLogger(__name__)
FOLDER = "trials"
_CHECKPOINT = re.compile(r"attempt-\d+/trial-\d+/checkpoint_\d+")


@dataclass(frozen=True, kw_only=True)
class TrialEpoch(Record):
    """A finished epoch of a trial: an `EpochRecord`, and the lowest validation nats so far."""

    epoch: int
    step: int
    seconds: float
    learning_rate: float
    train_nats: float
    valid_nats: float | None = None
    valid_bits_per_dim: float | None = None
    best_valid_nats: float

    @classmethod
    def of(cls, record: EpochRecord, best: float) -> TrialEpoch:
        """Return what is kept of an epoch."""
        return cls(**dataclasses.asdict(record), best_valid_nats=best)

    @property
    def metrics(self) -> dict[str, float]:
        """What MLflow's run of the trial shows of the epoch."""
        values: dict[str, float | None] = dataclasses.asdict(self)
        return {k: v for k, v in values.items() if v is not None and k not in ("epoch", "step")}


@dataclass(frozen=True, kw_only=True)
class TrialRecord(Record):
    """A trial of a search, as its file has it.

    Attributes:
        number: from 1.
        status: one of STATUSES; unfinished while it runs.
        values: by parameter name.
        history: its finished epochs.
        problem: why it failed, in one line.
        lost: whether it failed with its process rather than by itself, so that it may be tried
            again.
        checkpoint: the newest, a folder below that of the search; empty for none.
        sampling_seconds: of drawing samples, where that is an objective too; None without.
        code_sha256: hash of the code that began it; None where that is not known.
    """

    number: int
    status: str
    values: Mapping[str, object]
    history: tuple[TrialEpoch, ...] = ()
    problem: str = ""
    lost: bool = False
    checkpoint: str = ""
    sampling_seconds: float | None = left_out(None)
    code_sha256: str | None = left_out(None)

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

    def reported(self, report: TrainingReport) -> TrialRecord:
        """Return the record after one more report; an epoch that is reported again counts once."""
        if report.record is None:
            return self
        newest = TrialEpoch.of(report.record, report.best_valid_nats)
        before = tuple(row for row in self.history if row.epoch < newest.epoch)
        return dataclasses.replace(self, history=(*before, newest))

    def row(self) -> Trial:
        """Return the trial's row of the table."""
        failed = self.status == "failed"
        last = self.history[-1] if self.history else None
        return Trial(
            number=self.number,
            status=self.status,
            epochs=0 if failed or last is None else last.epoch,
            value=self.value,
            seconds=0.0 if last is None else round(last.seconds, 1),
            values=self.values,
            curve=[(row.epoch, row.best_valid_nats) for row in self.history],
            problem=self.problem,
            sampling_seconds=self.sampling_seconds,
        )


class TrialRecords:
    """All records of a search, here and in its folder.

    Arguments:
        search: the search.
        place: folder or URI of the search.
    """

    def __init__(self, search: Search, place: str) -> None:
        self.search, self.place = search, place
        self.code_sha256 = provenance.code_sha256("tune", str(search.base.model["name"]))
        self._found: dict[int, TrialRecord] = {}
        self._failing = False

    def read(self) -> None:
        """Read what an interrupted search left; one that failed with its process runs again.

        Raises:
            UserError: naming the file, if it is damaged, of another search or of other code, whose
                values may not stand beside those of this code.
        """
        filesystem, folder = storage.filesystem(storage.join(self.place, FOLDER))
        selector = pyarrow.fs.FileSelector(folder, allow_not_found=True)
        names = [info.base_name for info in filesystem.get_file_info(selector)]
        for name in sorted(name for name in names if re.fullmatch(r"\d+\.json", name)):
            where = storage.join(self.place, FOLDER, name)
            record = _parse(storage.read_bytes(where), redacted(where), self.search)
            self._require_this_code(record, redacted(where))
            if record.lost:
                record = dataclasses.replace(record, status="unfinished", problem="", lost=False)
            self._found[record.number] = record

    def _require_this_code(self, record: TrialRecord, where: str) -> None:
        code, own = record.code_sha256, self.code_sha256
        if None not in (code, own) and code != own:
            raise UserError(
                f"{where}: expected a trial of this code ({str(own)[:8]}), got one of other code "
                f"({str(code)[:8]}); check that out again, or begin anew: --fresh forgets it"
            )

    def __getitem__(self, number: int) -> TrialRecord:
        """Return the record of a trial."""
        return self._found[number]

    def all(self) -> list[TrialRecord]:
        """Return the records there are, by number."""
        return [self._found[number] for number in sorted(self._found)]

    def begin(self, number: int, values: Mapping[str, object]) -> None:
        """Keep a trial that starts, unless it goes on."""
        if number not in self._found:
            code = self.code_sha256
            self.keep(
                TrialRecord(number=number, status="unfinished", values=values, code_sha256=code)
            )

    def keep(self, record: TrialRecord) -> None:
        """Keep a record; a storage that is away for a while costs a warning, not the search."""
        self._found[record.number] = record
        where = storage.join(self.place, FOLDER, f"{record.number:06d}.json")
        try:
            storage.write_bytes(where, (json.dumps(record.to_dict()) + "\n").encode())
        except (UserError, OSError) as error:
            if not self._failing:
                log.warning(
                    "warning: %s: cannot keep trials: %s", self.search.name, one_line(error)
                )
            self._failing = True
        else:
            self._failing = False

    def next_attempt(self) -> str:
        """Return the name of a folder that no earlier start of the search has used."""
        filesystem, folder = storage.filesystem(self.place)
        try:
            selector = pyarrow.fs.FileSelector(folder, allow_not_found=True)
            names = {info.base_name for info in filesystem.get_file_info(selector)}
        except (pa.ArrowException, OSError) as error:
            where = redacted(self.place)
            raise UserError(f"{where}: cannot read: {one_line(error)}") from None
        number = 1
        while f"attempt-{number}" in names:
            number += 1
        return f"attempt-{number}"


def _parse(content: bytes, where: str, search: Search) -> TrialRecord:
    record = TrialRecord.from_dict(parse_object(content, where), where)
    wanted = f"an integer in 1..{search.total}"
    require(1 <= record.number <= search.total, f"{where}: number", wanted, record.number)
    require(record.status in STATUSES, f"{where}: status", f"one of {STATUSES}", record.status)
    fits = not record.checkpoint or _CHECKPOINT.fullmatch(record.checkpoint) is not None
    require(fits, f"{where}: checkpoint", "a folder of this search", record.checkpoint)
    for parameter in search.space:
        value = record.values.get(parameter.name)
        kind = f"a value of {parameter.kind} {list(parameter.values)}"
        require(_can_be(parameter, value), f"{where}: values.{parameter.name}", kind, value)
    known = {parameter.name for parameter in search.space}
    others = sorted(record.values.keys() - known)
    require(not others, f"{where}: values", "those of the space", others)
    return record


def _can_be(parameter: Parameter, value: object) -> bool:
    """Tell whether a draw may have been the value; Optuna's may be the upper end of a range."""
    end = parameter.kind in FLOATS and not isinstance(value, bool) and value == parameter.bounds[1]
    return end or parameter.contains(value)
