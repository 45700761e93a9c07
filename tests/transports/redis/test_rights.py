"""Users of Redis' access control lists: what docs/how-to/use-redis.md grants is enough, and what lacks is named."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from brokers.conftest import started
from brokers.servers import RedisServer

from paigeant import App
from paigeant.doctor.checks import examine
from paigeant.doctor.finding import Finding, Verdict
from paigeant.errors import TransportError
from paigeant.transport import Outgoing
from paigeant.transports import new_transport
from paigeant.transports.redis.client import connect
from paigeant.transports.redis.rights import CONSUMING, PUBLISHING, missing

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to" / "use-redis.md"
PREFIX = "paigeant:"


class Guarded(RedisServer):
    """A server with users."""

    def _command(self) -> list[str]:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        return ["redis-server", *options]

    def url_of(self, user: str) -> str:
        return f"redis://{user}:secret@127.0.0.1:{self.port}/1"

    def let(self, user: str, *rules: str) -> None:
        with redis.Redis(port=self.port) as client:
            client.execute_command("ACL", "SETUSER", user, *rules)  # type: ignore[no-untyped-call]


def documented(user: str) -> list[str]:
    """The rules that the how-to gives to this user."""
    text = re.sub(r"\\\n", " ", HOW_TO.read_text())
    found = re.search(rf"ACL SETUSER {user} (.*)", text)
    assert found is not None
    return found[1].split()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    server: Any = started(Guarded, tmp_path / "redis")
    for user in ("worker", "dispatcher"):
        server.let(user, "reset", *documented(user))
    yield server
    server.close()


def test_the_how_to_grants_what_the_code_needs() -> None:
    """And nothing else."""
    commands = {
        user: {rule[1:] for rule in documented(user) if rule.startswith("+")} for user in ("worker", "dispatcher")
    }
    assert commands == {"worker": {*PUBLISHING, *CONSUMING}, "dispatcher": set(PUBLISHING)}
    for user in ("worker", "dispatcher"):
        others = [rule for rule in documented(user) if not rule.startswith("+")]
        assert others == ["on", ">secret", f"~{PREFIX}*", f"&{PREFIX}wake*"]


def test_the_documented_users_dispatch_and_work(guarded: Guarded) -> None:
    """With delays, a time to live, releases, purging and looking."""

    async def scenario() -> None:
        sender, worker = new_transport(guarded.url_of("dispatcher")), new_transport(guarded.url_of("worker"))
        await sender.declare("q")
        await sender.send([Outgoing(queue="q", body=b"", id="a"), Outgoing(queue="q", body=b"", id="b", delay=0.5)])
        assert await sender.depth("q") == 2
        assert await sender.queues() == {"q": 2}
        batches = worker.consume(["q"], 10)
        [first] = await anext(batches)
        await worker.release(first, 0.1)
        for _ in range(2):
            for one in await anext(batches):
                await worker.settle(one, [Outgoing(queue="next", body=b"", id=f"{one.id}2")])
        assert await sender.depth("next") == 2
        assert await sender.purge("next") == 2
        await batches.aclose()
        await worker.delete("q")
        await worker.close()
        await sender.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_dispatcher_may_not_consume(guarded: Guarded) -> None:
    """Refused with Redis' reason, and the message stays."""

    async def scenario() -> int:
        sender = new_transport(guarded.url_of("dispatcher"))
        try:
            await sender.send([Outgoing(queue="q", body=b"", id="a")])
            with pytest.raises((TransportError, TimeoutError)):
                await asyncio.wait_for(anext(sender.consume(["q"], 1)), 2)
            return await new_transport(guarded.url_of("worker")).depth("q")
        finally:
            await sender.close()

    assert asyncio.run(asyncio.wait_for(scenario(), 60)) == 1


@pytest.mark.parametrize("command", sorted({*PUBLISHING, *CONSUMING}))
def test_a_command_that_lacks_is_named(guarded: Guarded, command: str) -> None:
    """Every one of them."""
    guarded.let("worker", f"-{command}")
    with connect(guarded.url_of("worker")) as client:
        assert missing(client, PREFIX) == [f"+{command}"]
    guarded.let("worker", f"+{command}")
    with connect(guarded.url_of("worker")) as client:
        assert missing(client, PREFIX) == []


def test_patterns_that_lack_are_named(guarded: Guarded) -> None:
    """Keys and channels."""
    guarded.let("worker", "resetkeys", "resetchannels")
    with connect(guarded.url_of("worker")) as client:
        assert missing(client, PREFIX) == [f"~{PREFIX}*", f"&{PREFIX}wake*"]


@pytest.mark.parametrize("command", ["xclaim", "xadd", "info", "evalsha", "hset"])
def test_the_doctor_names_the_command(guarded: Guarded, command: str) -> None:
    """Whether the connection fails already or only the round trip."""
    guarded.let("worker", f"-{command}")

    async def scenario() -> list[Finding]:
        app = App("acl", broker=guarded.url_of("worker"), store="none")
        try:
            return [finding async for finding in examine(app)]
        finally:
            await app.close()

    found = {finding.name: finding for finding in asyncio.run(asyncio.wait_for(scenario(), 90))}
    assert found["rights"].verdict is Verdict.FAIL
    assert found["rights"].found == f"the user lacks +{command}"
