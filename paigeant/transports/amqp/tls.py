"""RabbitMQ over TLS: the server's certificate is checked, and that it was given to the server the URL names.

kombu asks for a certificate that a known authority has signed, but not whose it is (``amqp.transport.SSLTransport``
matches names only if it is told one), so that any owner of such a certificate could pass for the broker.
"""

from __future__ import annotations

import ssl
from typing import Any

from kombu.transport.pyamqp import SSLTransport


class Transport(SSLTransport):
    """kombu's, told the name of the very server it connects to; of several servers each has its own."""

    def establish_connection(self) -> Any:
        told = self.client.ssl if isinstance(self.client.ssl, dict) else {}
        if told.get("cert_reqs") is not ssl.CERT_NONE:
            self.client.ssl = told | {"server_hostname": self.client.hostname}
        return super().establish_connection()
