"""Queues in Redis: lost answers, lost leases, and servers that were away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from transports.redis_queues import LEASE, AnswerLost, claim, ids, send, with_lost_answer

from paigeant.transport import Outgoing
from paigeant.transports.pump.settlement import Settlement
from paigeant.transports.redis.queue import RedisQueue

# --- lost answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("followers", [[], ["next"]], ids=["last step", "middle"])
@pytest.mark.parametrize("kind", ["ack", "release"])
def test_a_settlement_whose_answer_was_lost_is_done(queue: RedisQueue, followers: list[str], kind: str) -> None:
    """Made again it is accepted, and changes nothing."""
    send(queue, "m")
    [delivery] = claim(queue)
    outgoing = [Outgoing(queue="other", body=b"", id=id_) for id_ in followers]
    release = 0.0 if kind == "release" else None
    settlement = Settlement(delivery=delivery, outgoing=outgoing, release_after=release)
    with_lost_answer(queue, lambda: queue.exchange([settlement], 0))
    assert settlement.tried
    assert queue.exchange([settlement], 0)[0] == [True]
    assert not delivery.lease.lost
    assert queue.depth("other") == (len(followers) if kind == "ack" else 0)
    assert queue.depth("q") == (1 if kind == "release" else 0)


def test_a_settlement_is_remembered_longer_than_its_lease(make_queue: Callable[..., RedisQueue], clock: Any) -> None:
    """The worker was cut off for so long that others buried it: what it had settled before is still done."""
    queue, other = make_queue(), make_queue()
    send(queue, "m")
    [delivery] = claim(queue)
    settlement = Settlement(delivery=delivery)
    with_lost_answer(queue, lambda: queue.exchange([settlement], 0))
    clock.advance(LEASE + 1)
    assert claim(other) == []
    assert queue.exchange([settlement], 0)[0] == [True]


def test_a_settlement_that_was_never_made_is_refused_once_the_lease_is_lost(
    make_queue: Callable[..., RedisQueue], clock: Any
) -> None:
    """Not knowing is no reason to be believed."""
    queue, other = make_queue(), make_queue()
    send(queue, "m")
    [delivery] = claim(queue)
    clock.advance(LEASE + 1)
    [again] = claim(other)
    settlement = Settlement(delivery=delivery, outgoing=[Outgoing(queue="o", body=b"", id="n")], tried=True)
    assert queue.exchange([settlement], 0)[0] == [False]
    assert other.exchange([Settlement(delivery=again)], 0)[0] == [True]
    assert queue.depth("o") == 0


def test_what_was_claimed_without_an_answer_comes_again(make_queue: Callable[..., RedisQueue]) -> None:
    """Even the first claim of a holder, of which it does not know that it is registered. Nothing is counted."""
    queue, other = make_queue(), make_queue()
    send(other, "m")
    with_lost_answer(queue, lambda: claim(queue))
    [delivery] = claim(other)
    assert (delivery.id, delivery.deliveries, delivery.redelivered) == ("m", 1, True)


def test_closing_frees_what_was_claimed_without_an_answer(make_queue: Callable[..., RedisQueue]) -> None:
    """A holder that resigns leaves nothing behind under its name."""
    queue, other = make_queue(), make_queue()
    send(other, "a")
    assert ids(claim(queue)) == ["a"]
    send(other, "b")
    script = queue.server.scripts["exchange"]
    number = queue.leases.next_number()
    arguments = [queue.leases.me, queue.leases.session, number, int(LEASE * 1000), 0, 1, 1, 10, 1, "q", 0, 0]
    script(args=[queue.server.prefix, queue.server.now(), *arguments])
    queue.close()
    assert sorted(map(str, ids(claim(other)))) == ["a", "b"]


@pytest.mark.parametrize("broken", ["worth_handing_out", "keep"])
def test_trouble_after_an_exchange_costs_neither_its_answers_nor_its_claims(
    make_queue: Callable[..., RedisQueue], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """What was settled is answered, and what was claimed and not handed out goes back, uncounted."""
    queue, other = make_queue(), make_queue()
    send(queue, "a", "b")
    [first] = claim(queue, 1)

    def fails(_: object) -> None:
        raise AnswerLost("connection reset")

    monkeypatch.setattr(queue._house, broken, fails)
    assert queue.exchange([Settlement(delivery=first)], 5) == ([True], [])
    monkeypatch.undo()
    assert claim(queue, 0) == []
    queue.renew()
    [second] = claim(other)
    assert (second.id, second.deliveries) == ("b", 1)


# --- identity -----------------------------------------------------------------------------------------------------


def test_equal_delayed_messages_are_several(queue: RedisQueue) -> None:
    """Also when they were released with the same delay."""
    outgoing = [Outgoing(queue="q", body=b"same", delay=1.0) for _ in range(5)]
    queue.exchange([Settlement(outgoing=outgoing)], 0)
    assert queue.depth("q") == 5
    queue.server.clock.advance(2)  # type: ignore[union-attr]
    deliveries = claim(queue)
    assert len(deliveries) == 5
    queue.exchange([Settlement(delivery=one, release_after=1.0) for one in deliveries], 0)
    queue.server.clock.advance(2)  # type: ignore[union-attr]
    assert len(claim(queue)) == 5


def test_messages_due_at_one_moment_keep_their_order(queue: RedisQueue) -> None:
    """However many there are."""
    names = [str(number) for number in range(300)]
    send(queue, *names, delay=1.0)
    queue.server.clock.advance(2)  # type: ignore[union-attr]
    assert [one for _ in range(3) for one in ids(claim(queue, 200))] == names


def test_a_due_message_that_was_not_moved_yet_waits(queue: RedisQueue) -> None:
    """So the same id is not sent a second time."""
    names = [str(number) for number in range(500)]
    send(queue, *names, delay=1.0)
    queue.server.clock.advance(2)  # type: ignore[union-attr]
    assert len(claim(queue, 1)) == 1
    send(queue, "499", "300", "5")
    assert queue.depth("q") == 499
    assert len({one for _ in range(4) for one in ids(claim(queue, 250))}) == 499


def test_a_released_delivery_cannot_settle_the_one_that_follows_it(queue: RedisQueue) -> None:
    """The same worker claims the message again, with the same count: it is another delivery all the same."""
    send(queue, "m")
    [first] = claim(queue)
    queue.exchange([Settlement(delivery=first, release_after=0.0)], 0)
    [second] = claim(queue)
    assert second.deliveries == first.deliveries
    assert queue.exchange([Settlement(delivery=first, outgoing=[Outgoing(queue="q", body=b"")])], 0)[0] == [False]
    assert queue.exchange([Settlement(delivery=first, release_after=0.0)], 1)[1] == []
    assert not second.lease.lost
    assert queue.exchange([Settlement(delivery=second)], 0)[0] == [True]
    assert queue.depth("q") == 0


def test_an_exchange_that_arrives_late_does_nothing(queue: RedisQueue, server: redis.Redis) -> None:
    """It was made again meanwhile: it claims nothing, sends nothing, and releases nothing that was claimed since."""
    send(queue, "a", "b")
    [first] = claim(queue, 1)
    late: list[dict[str, Any]] = []
    script = queue.server.scripts["exchange"]

    def held_up(**arguments: Any) -> None:
        late.append(arguments)
        raise AnswerLost("connection reset")

    queue.server.scripts["exchange"] = held_up
    settlements = [Settlement(delivery=first, release_after=0.0), Settlement(outgoing=[Outgoing(queue="o", body=b"")])]
    with pytest.raises(AnswerLost):
        queue.exchange(settlements, 5)
    queue.server.scripts["exchange"] = script
    queue.disconnect()
    queue.open()
    assert queue.exchange(settlements, 0)[0] == [True, True]
    assert queue.depth("o") == 1
    claimed = claim(queue, 1)
    assert script(**late[0]) is None
    assert queue.depth("o") == 1
    assert queue.exchange([Settlement(delivery=one) for one in claimed], 0)[0] == [True]
    assert len(claim(queue)) == 1


def test_a_send_whose_answer_was_lost_is_made_once(make_queue: Callable[..., RedisQueue]) -> None:
    """Even if the message was settled before it is sent again."""
    sender, worker = make_queue("none"), make_queue()
    settlement = Settlement(outgoing=[Outgoing(queue="q", body=b"", id="m")])
    with_lost_answer(sender, lambda: sender.exchange([settlement], 0))
    [delivery] = claim(worker)
    worker.exchange([Settlement(delivery=delivery)], 0)
    assert sender.exchange([settlement], 0)[0] == [True]
    assert worker.depth("q") == 0


def test_a_doubt_outlasts_other_exchanges(queue: RedisQueue) -> None:
    """What is not asked again at once is remembered until it is."""
    send(queue, "a", "b")
    first, second = claim(queue)
    settlement = Settlement(delivery=first)
    with_lost_answer(queue, lambda: queue.exchange([settlement], 0))
    assert queue.exchange([Settlement(delivery=second)], 0)[0] == [True]
    send(queue, "c")
    assert queue.exchange([settlement], 0)[0] == [True]
    assert queue.exchanges.doubts == {}
    assert queue.exchange([Settlement(delivery=first)], 0)[0] == [False]


def test_a_message_leaves_nothing_behind(queue: RedisQueue, server: redis.Redis) -> None:
    """No key for each message that went through, delayed ones included."""

    def keys() -> int:
        return sum(1 for _ in server.scan_iter(match=f"{queue.server.prefix}*", count=1000))

    def pass_through(start: int) -> int:
        for number in range(start, start + 20):
            send(queue, str(number), delay=float(number % 2))
        queue.server.clock.advance(2)  # type: ignore[union-attr]
        queue.exchange([Settlement(delivery=one) for one in claim(queue, 50)], 0)
        assert queue.depth("q") == 0
        return keys()

    assert pass_through(0) == pass_through(100)


# --- when the server was away -------------------------------------------------------------------------------------


def restarted(queue: RedisQueue, server: redis.Redis) -> None:
    """What a process sees after the server was started again, or another one took over."""
    server.hset(f"{queue.server.prefix}server", "run", "another")


def test_nobody_dies_of_an_outage(make_queue: Callable[..., RedisQueue], server: redis.Redis, clock: Any) -> None:
    """The first that comes back takes nothing; who renews within the time of a lease keeps what it has."""
    slow, dead = make_queue(), make_queue()
    send(slow, "a", "b")
    [held] = claim(slow, 1)
    assert ids(claim(dead, 1)) == ["b"]
    restarted(slow, server)
    clock.advance(LEASE + 60)
    quick = make_queue()
    assert claim(quick) == []
    clock.advance(LEASE - 1)
    assert claim(quick) == []
    slow.disconnect()
    slow.open()
    assert slow.exchange([], 0) == ([], [])
    clock.advance(2)
    assert ids(claim(quick)) == ["b"]
    assert slow.exchange([Settlement(delivery=held)], 0)[0] == [True]


def test_a_holder_that_is_being_buried_has_lost_its_lease(
    make_queue: Callable[..., RedisQueue], server: redis.Redis, clock: Any
) -> None:
    """A beat does not stop it. What was not freed yet is nobody else's, and can be settled."""
    slow, quick = make_queue(), make_queue("none")
    names = [str(number) for number in range(450)]
    send(slow, *names)
    held = [*claim(slow, 250), *claim(slow, 250)]
    clock.advance(LEASE + 1)
    quick.exchange([], 1)
    assert server.hexists(f"{slow.server.prefix}burying", slow.leases.me)
    slow.beat()
    slow.leases.renewed_at = clock.now()
    settlements = [Settlement(delivery=held[0]), Settlement(delivery=held[-1])]
    assert slow.exchange(settlements, 0)[0] == [False, True]
    assert all(one.lease.lost for one in held[:-1])
    heir = make_queue()
    again = [one for _ in range(6) for one in claim(heir, 200)]
    assert sorted(map(str, ids(again))) == sorted(names[:-1])
    assert {one.deliveries for one in again} == {2}


# --- leases -------------------------------------------------------------------------------------------------------


def test_a_holder_that_was_buried_cannot_claim(make_queue: Callable[..., RedisQueue], clock: Any) -> None:
    """Nobody would ever free what it claims under a name that is not registered."""
    slow, quick = make_queue(), make_queue()
    send(quick, "a", "b")
    assert ids(claim(slow, 1)) == ["a"]
    clock.advance(LEASE + 1)
    claimed = claim(quick, 1)
    slow.leases.renewed_at = clock.now()  # it believes that it has just renewed
    assert claim(slow) == []
    assert ids(claimed + claim(quick)) == ["a", "b"]
    quick.exchange([Settlement(delivery=claimed[0], release_after=0.0)], 0)
    assert ids(claim(slow)) == ["a"], "under a new name it can"


def test_a_beat_keeps_a_lease_but_does_not_revive_one(make_queue: Callable[..., RedisQueue], clock: Any) -> None:
    """What is lost is lost."""
    queue, other = make_queue(), make_queue()
    send(queue, "m")
    claim(queue)
    clock.advance(LEASE - 1)
    queue.beat()
    clock.advance(LEASE - 1)
    assert claim(other) == []
    clock.advance(2)
    assert ids(claim(other)) == ["m"]
    queue.beat()
    assert queue.server.redis.zscore(f"{queue.server.prefix}holders", queue.leases.me) is None


def test_a_full_worker_waits_for_room_rather_than_look_all_the_time(queue: RedisQueue) -> None:
    """With more waiting and no room there is nothing to do until something is settled."""
    send(queue, "a", "b")
    [delivery] = claim(queue, 1)
    assert queue.patience == 0.0
    assert claim(queue, 0) == []
    assert queue.patience is not None
    assert queue.patience > 1.0
    assert ids(queue.exchange([Settlement(delivery=delivery)], 1)[1]) == ["b"]


def test_whoever_finds_itself_late_does_not_bury_itself(make_queue: Callable[..., RedisQueue], clock: Any) -> None:
    """It slept between the look at its watch and the claim: what it claims must be under a name that is registered."""
    late, other = make_queue(), make_queue()
    send(other, "a", "b")
    assert ids(claim(late, 1)) == ["a"]
    clock.advance(LEASE + 1)
    late.leases.renewed_at = clock.now()
    assert ids(claim(late, 1)) == ["b"]
    assert sorted(map(str, ids(claim(other)))) == ["a", "b"]
