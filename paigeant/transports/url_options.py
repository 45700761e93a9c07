"""Options in a broker URL's query that are paigeant's, not kombu's: ``amqp://host//?queue_type=classic``."""

from __future__ import annotations

import re
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from paigeant.errors import ConfigurationError
from paigeant.runtime import private

QUEUE_TYPES = ("quorum", "classic")
CONSUMER_TIMEOUT = 1800.0
"""Seconds RabbitMQ waits for an acknowledgement by default, since 3.8.17; AMQP does not tell what it is set to."""

_TLS_FILES = {"ssl_ca_certs": "ca_certs", "ssl_certfile": "certfile", "ssl_keyfile": "keyfile"}
"""Options that name a file, and what py-amqp calls them."""

_CERTIFICATES = {"required": ssl.CERT_REQUIRED, "none": ssl.CERT_NONE}

_FOLDERS = ("data_folder_in", "data_folder_out", "processed_folder", "control_folder")


def taken_out(url: str, names: Collection[str]) -> tuple[str, dict[str, str]]:
    """The URL without these options, and their values; of several servers (``amqp://a;amqp://b``) the last word."""
    found: dict[str, str] = {}

    def without(part: str) -> str:
        address, _, query = part.partition("?")
        options = parse_qsl(query, keep_blank_values=True)
        found.update((name, value) for name, value in options if name in names)
        rest = urlencode([(name, value) for name, value in options if name not in names])
        return f"{address}?{rest}" if rest else address

    return ";".join(without(part) for part in url.split(";")), found


@dataclass(frozen=True, slots=True)
class RabbitOptions:
    """How RabbitMQ is used. ``consumer_timeout`` is seconds, None for never; ``tls`` is what py-amqp is told of TLS."""

    queue_type: str
    consumer_timeout: float | None
    tls: Mapping[str, Any] = field(default_factory=dict)


def rabbitmq(url: str) -> tuple[str, RabbitOptions]:
    """The URL for kombu, and our options.

    ``queue_type`` is ``quorum`` or ``classic``; ``consumer_timeout`` is what ``rabbitmq.conf`` says, so milliseconds,
    and 0 where it is switched off. ``ssl_ca_certs``, ``ssl_certfile`` and ``ssl_keyfile`` name files, and
    ``ssl_cert_reqs=none`` trusts whoever answers.

    Raises:
        ConfigurationError: an option has no meaning, or a file is not there.
    """
    url, found = taken_out(url, ("queue_type", "consumer_timeout", "ssl_cert_reqs", *_TLS_FILES))
    tls = _tls(found)
    wanted = found.get("queue_type", QUEUE_TYPES[0])
    if wanted not in QUEUE_TYPES:
        raise ConfigurationError(
            f"queue_type={wanted!r} is no type of queue", hint=f"use one of {', '.join(QUEUE_TYPES)}"
        )
    told = found.get("consumer_timeout")
    if told is None:
        return url, RabbitOptions(wanted, CONSUMER_TIMEOUT, tls)
    if not re.fullmatch(r"[0-9]{1,12}", told):
        raise ConfigurationError(
            f"consumer_timeout={told!r} is no number of milliseconds",
            hint="say what rabbitmq.conf says, or 0 where it is switched off",
        )
    return url, RabbitOptions(wanted, int(told) / 1000 or None, tls)


def _tls(found: Mapping[str, str]) -> dict[str, Any]:
    files = {meant: found[name] for name, meant in _TLS_FILES.items() if name in found}
    for missing in (path for path in files.values() if not Path(path).is_file()):
        raise ConfigurationError(f"the broker URL names the file {missing!r}, which is not there")
    wanted = found.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if wanted not in _CERTIFICATES:
        raise ConfigurationError(
            f"ssl_cert_reqs={wanted!r} has no meaning", hint=f"use one of {', '.join(_CERTIFICATES)}"
        )
    return files | {"cert_reqs": _CERTIFICATES[wanted]}


def filesystem(url: str) -> tuple[str, dict[str, str]]:
    """The URL for kombu, and its options. The folders are made.

    ``filesystem:///var/spool/app`` keeps everything in one folder; ``data_folder_in``, ``data_folder_out``,
    ``processed_folder``, ``control_folder`` and ``store_processed`` in the query set them one by one.

    Raises:
        ConfigurationError: no folder is named, or it cannot be made.
    """
    bare, options = taken_out(url, (*_FOLDERS, "store_processed"))
    path = unquote(bare.partition("://")[2])
    if path:
        everything = {"data_folder_in": path, "data_folder_out": path, "control_folder": f"{path}/control"}
        options = everything | options
    if not {"data_folder_in", "data_folder_out"} <= options.keys():
        raise ConfigurationError("filesystem:// names no folder", hint="for example filesystem:///var/spool/app")
    for name in _FOLDERS:
        if name in options:
            _make(Path(options[name]))
    return "filesystem://", options


def _make(folder: Path) -> None:
    try:
        private.folder(folder)
    except OSError as error:
        raise ConfigurationError(f"the folder {str(folder)!r} cannot be made: {error.strerror}") from error
