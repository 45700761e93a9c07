"""Few queues serve many delays on RabbitMQ."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant.transports.amqp import delays


@given(st.floats(min_value=0.001, max_value=86_400))
def test_a_delay_fits_into_its_queue_and_fills_more_than_half_of_it(delay):
    """So that nothing waits longer than twice as long behind others; a second is the least."""
    level = delays.level(delay)
    assert delay <= level
    assert level == 1 or level < 2 * delay


def test_a_day_of_delays_has_18_queues():
    """Of each prefix, however many targets there are."""
    names = {delays.delay_queue(f"app.step{n % 7}", n / 10) for n in range(1, 864_000, 7)}
    assert len(names) == 18
    assert all(name.startswith("app.delay.") for name in names)


@pytest.mark.parametrize(("target", "name"), [("a.b.c", "a.b.delay.4"), ("plain", "plain.delay.4")])
def test_a_delay_queue_has_the_prefix_of_its_target(target, name):
    """The user's permissions are for names with it."""
    assert delays.delay_queue(target, 3.0) == name


@pytest.mark.parametrize(
    ("version", "queue_type", "safe"),
    [
        ("3.9.29", "quorum", False),
        ("3.10.8", "quorum", True),
        ("4.1.0", "quorum", True),
        ("4.1.0", "classic", False),
        ("", "quorum", False),
    ],
)
def test_delayed_messages_are_kept_for_a_missing_target_where_the_server_can(version, queue_type, safe):
    """Quorum queues with time to live came with 3.10."""
    arguments = delays.arguments(version, queue_type)
    assert (arguments.get("x-dead-letter-strategy") == "at-least-once") == safe
    assert arguments["x-queue-type"] == ("quorum" if safe else "classic")


@pytest.mark.parametrize(("delay", "text"), [(0.4, "400"), (0.0001, "1"), (3.0001, "3001")])
def test_a_message_is_never_early(delay, text):
    """Milliseconds are rounded up."""
    assert delays.milliseconds(delay) == text
