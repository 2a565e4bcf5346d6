"""Raw files from a public address or a mirror: partial files that grow until they are whole."""

from __future__ import annotations

import logging
from pathlib import Path

import requests
import urllib3

from pipeline.core.errors import one_line
from pipeline.core.redaction import redacted
from pipeline.data.unpacking import CHUNK, largest, progress
from pipeline.datasets.base import RawFile

TIMEOUT = (4.0, 20.0)  # seconds to connect, and between two packets
ATTEMPTS = 3

logger = logging.getLogger(__name__)


class Unavailable(Exception):
    """An address cannot give the file; the message says why."""

    def __init__(self, reason: str, host_unreachable: bool = False) -> None:
        super().__init__(reason)
        self.host_unreachable = host_unreachable


class _Interrupted(requests.RequestException):
    """The server closed the connection before the announced end."""


def download(url: str, part: Path, file: RawFile) -> None:
    """Complete the partial file; interruptions are resumed while they bring something new.

    Raises:
        Unavailable: if the address cannot give the file.
    """
    for attempt in range(1, ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            _request(url, part, file, before)
            return
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            reached = part.stat().st_size if part.exists() else 0
            if attempt == ATTEMPTS or reached <= before:
                lost = isinstance(error, requests.ConnectionError) and reached == 0
                raise Unavailable(_reason(error), host_unreachable=lost) from None
            logger.info("%s: interrupted after %d bytes, resuming", redacted(url), reached)


def _reason(error: Exception) -> str:
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return "no answer in time"
    if isinstance(error, _Interrupted):
        return str(error)
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return one_line(error)[:120]


def _request(url: str, part: Path, file: RawFile, offset: int) -> None:
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:
            complete = response.headers.get("Content-Range", "").rpartition("/")[2]
            if complete != str(offset):  # the partial file is longer than the file: start again
                part.unlink()
                _request(url, part, file, 0)
            return
        if response.status_code not in (200, 206):
            raise Unavailable(f"HTTP status {response.status_code}")
        if response.status_code == 200:
            offset = 0
        length = response.headers.get("Content-Length", "")
        total = offset + int(length) if length.isdecimal() else None
        most = largest(file) if file.member is None else file.archive_size
        with (
            part.open("ab" if offset else "wb") as out,
            progress(file, "downloading", total) as bar,
        ):
            bar.update(offset)
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                if out.tell() + len(chunk) > most + CHUNK:
                    raise Unavailable(f"more than the {most} bytes of {file.name}")
                out.write(chunk)
                bar.update(len(chunk))
    got = part.stat().st_size
    if total is not None and got < total:
        raise _Interrupted(f"ended after {got} of {total} bytes")
