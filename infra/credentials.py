"""Credentials have no place in a URI: it is stored, printed and logged wherever it goes."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

SECRET = re.compile(r"sig|token|secret|passw|credential|api.?key|access.?key", re.IGNORECASE)
"""In the name of a query's key: signed links, and tokens of services."""


def carried(uri: str) -> str | None:
    """What of a URI is a credential, in words that do not repeat it; None for none.

    ``abfs://container@account`` names a container: before the ``@`` of such a URI only what has a
    colon is a credential.
    """
    if "://" not in uri:
        return None
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    who, at, _ = parts.netloc.rpartition("@")
    if at and (":" in who or parts.scheme in ("http", "https", "ftp", "sftp", "s3", "s3a")):
        return "a user or a password before the @"
    keys = [key for key, _ in parse_qsl(parts.query, keep_blank_values=True) if SECRET.search(key)]
    return f"{keys[0]!r} in its query" if keys else None


INSTEAD = (
    "Credentials come from the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or "
    "AWS_PROFILE for s3; a ~/.netrc or a proxy for http; MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD for MLflow), so that no log, table or page has them"
)
