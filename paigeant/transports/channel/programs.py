"""What kombu programs may ask of our transports, where kombu would act in another way than its user expects."""

from __future__ import annotations

from typing import Any

from paigeant.errors import ConfigurationError
from paigeant.runtime.urls import masked


def keep_to_one_url(client: Any, scheme: str) -> None:
    """Have kombu's connection stay with this transport: for another URL it would choose one by the URL's scheme.

    Sentinels, which kombu takes for servers that are tried in turn, become one URL.

    Raises:
        ConfigurationError: the connection has several URLs.
    """
    several = [str(one) for one in client.alt or ()]
    if all(one.startswith("sentinel://") for one in several[:1]):
        client.hostname = ";".join(several) or client.hostname
        client.alt, client.cycle = [], None
    else:
        raise ConfigurationError(
            f"a connection over {scheme} has one URL, not {masked(';'.join(several))!r}: for another one kombu would "
            "use its own transport",
            hint="name one server; several Redis servers are used through sentinel://",
        )
