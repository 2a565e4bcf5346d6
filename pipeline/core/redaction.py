"""URIs as they are shown and logged: without passwords, tokens and options."""

import logging
import re
from pathlib import Path

# Settings of pyarrow's file systems that open nothing; any other key may be a secret's.
PLAIN_OPTIONS = frozenset(
    (
        "allow_bucket_creation", "allow_bucket_deletion", "connect_timeout", "endpoint_override",
        "region", "request_timeout", "retry_limit_seconds", "scheme", "tls_ca_file_path",
    )
)  # fmt: skip
# A password may have quotes in it, which elsewhere end a URI, slashes, question and number signs.
_URI = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://(?:[^\s@/:]*:[^\s@]*@)?[^\s'\"<>]*")
_IN_URI = re.compile(r"(?P<start>://)(?:[^?#]*@|[^\s@/:]*:[^\s@]*@)|[?#].*", re.DOTALL)
_QUERY = re.compile(r"\?[\w.%+-]+=[^\s'\"<>)]*")  # of a path alone, as urllib3 names one


def redacted(location: str | Path) -> str:
    """Return a place or a text, each URI in it without user, password, query and fragment.

    Example:
        >>> redacted("s3://key:secret@bucket/digits?scheme=http")
        's3://bucket/digits'
        >>> redacted("no file s3://key:sec/r'et@bucket/digits")
        'no file s3://bucket/digits'
        >>> redacted("no answer from http://me:p@ss@host:5000/api, url: /api?token=abc")
        'no answer from http://host:5000/api, url: /api'
        >>> redacted("data/shards/what?")
        'data/shards/what?'
    """
    text = _URI.sub(lambda found: _without_secrets(found[0]), str(location))
    return _QUERY.sub("", text)


def has_secrets(uri: str) -> bool:
    """Tell whether a URI has a user, a password, a fragment, or an option that may be secret."""
    if "://" not in uri:
        return False
    address, _, fragment = uri.partition("#")
    before, _, query = address.partition("?")
    keys = {pair.partition("=")[0] for pair in re.split("[&;]", query) if pair}
    return "@" in before or bool(fragment) or not keys <= PLAIN_OPTIONS


def _without_secrets(uri: str) -> str:
    # A message goes on after a URI: ": expected", ", got", "; the", ")".
    end = re.search(r"[:;,.)\]}]*$", uri)
    assert end is not None
    kept = _IN_URI.sub(lambda found: found["start"] or "", uri[: end.start()])
    return kept + end[0]


class Redacting(logging.Formatter):
    """A formatter of log records that shows no secrets of URIs."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return redacted(super().format(record))
