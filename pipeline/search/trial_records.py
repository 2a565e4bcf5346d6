"""The records of a search under way, from which an interrupted one goes on: a JSON file per trial.

They are in the folder of the search in the storage. Ray Tune writes files of its own next to them,
pickles among them, which nothing here reads.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Mapping

from pipeline.core import stage_code, storage
from pipeline.core.errors import UserError, one_line, require
from pipeline.core.records import parse_object
from pipeline.core.redaction import redacted
from pipeline.search.space import FLOATS, Parameter
from pipeline.search.spec import Search
from pipeline.search.trials import STATUSES, TrialRecord

log = logging.getLogger(__name__)
FOLDER = "trials"


class TrialRecords:
    """All records of a search, here and in its folder.

    Arguments:
        search: the search.
        place: folder or URI of the search.
    """

    def __init__(self, search: Search, place: str) -> None:
        self.search, self.place = search, place
        self.code_sha256 = stage_code.code_sha256("tune", str(search.base.model["name"]))
        self._found: dict[int, TrialRecord] = {}
        self._failing = False

    def read(self) -> None:
        """Read what an interrupted search left; one that failed with its process runs again.

        Raises:
            UserError: naming the file, if it is damaged, of another search or of other code, whose
                values may not be compared with those of this code.
        """
        names = storage.names(storage.join(self.place, FOLDER))
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
                f"({str(code)[:8]}); check that out again, or begin again: --fresh forgets it"
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


def _parse(content: bytes, where: str, search: Search) -> TrialRecord:
    record = TrialRecord.from_dict(parse_object(content, where), where)
    wanted = f"an integer in 1..{search.total}"
    require(1 <= record.number <= search.total, f"{where}: number", wanted, record.number)
    require(record.status in STATUSES, f"{where}: status", f"one of {STATUSES}", record.status)
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
