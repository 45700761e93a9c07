"""What a URL says before anything connects to it."""

from __future__ import annotations

import re

DATABASES = ("sqlite", "postgresql", "postgres")
"""Schemes of databases that carry messages and keep history."""


def is_database_url(url: str) -> bool:
    """Whether the URL names a database rather than a broker."""
    return re.split(r"[+:]", url, maxsplit=1)[0] in DATABASES


def masked(url: str) -> str:
    """The URL with its password and other secrets replaced, for logs and screens."""
    url = re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", url)  # up to the last @: people forget to quote passwords
    return re.sub(r"(?i)([?&][^=&\s]*(?:password|secret|token)[^=&\s]*=)[^&\s]*", r"\1***", url)
