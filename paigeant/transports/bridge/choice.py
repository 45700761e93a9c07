"""Which pump serves a connection."""

from __future__ import annotations

from collections.abc import Callable

from kombu import Connection

from paigeant.transports.pump.contract import Pump


def pump_of(connection: Connection, new_connection: Callable[[], Connection]) -> Pump:
    """Our channels bring a pump of their own, RabbitMQ has one, any other broker gets the one that works for all."""
    if connection.transport.driver_name == "py-amqp":
        from paigeant.transports.amqp.pump import AmqpPump

        return AmqpPump(connection, new_connection)
    pump: Pump | None = getattr(connection.default_channel, "pump", None)
    if pump is None:
        from paigeant.transports.pump.channel_pump import ChannelPump

        pump = ChannelPump(connection)
    return pump
