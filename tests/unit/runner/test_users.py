"""On whose behalf a step runs: what a worker checks before it runs the step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tokens import Issuer
from unit.builders import message, slip

from paigeant.activity import Activity
from paigeant.config import load_settings
from paigeant.decisions.outcome import Returned
from paigeant.errors import KeysUnavailable, KeyUnknown, ScopesMissing, TokenRefused
from paigeant.records.workflow import Standing, Status
from paigeant.runner.run import Run
from paigeant.runner.users import UNKNOWN_SINCE, Users, without_keys
from paigeant.security.claims import Tokens
from paigeant.transport import Delivery
from paigeant.wire.log import Fault, LogEntry, Undo
from paigeant.wire.message import PaigeantMessage

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


def run_of(one: PaigeantMessage, now: float = NOW, since: str | None = None) -> Run:
    delivery = Delivery(queue="q", body=b"", tag=1, headers={} if since is None else {UNKNOWN_SINCE: since})
    return Run(one, delivery, "worker", SimpleNamespace(now=lambda: now), lambda: None)


def users(tokens: Any, status: Status = Status.RUNNING) -> Users:
    async def standing(_: PaigeantMessage) -> Standing:
        return Standing(status=status)

    return Users(tokens, standing)


def back(token: str) -> PaigeantMessage:
    """A message that says of itself that its workflow is being compensated."""
    done = LogEntry(id="1", name="a", undo=Undo(queue="q", arguments={}))
    turned = slip("b").model_copy(update={"log": (done,)}).turned(Fault(step="2", type="X", message=""))
    return PaigeantMessage(routing_slip=turned, obo_token=token)


@pytest.mark.parametrize("status", list(Status))
async def test_only_the_store_says_that_a_token_may_have_expired(issuer, status):
    """A message cannot waive the check of its own token; without a store every workflow counts as running."""
    tokens, expired = Tokens.of(load_settings(**issuer.settings)), issuer.token(exp=1000)
    checks = users(tokens, status)
    assert back(expired).routing_slip.is_back
    if status is Status.COMPENSATING:
        assert (await checks.claims(run_of(back(expired)), None) or {})["sub"] == "ann"
    else:
        with pytest.raises(TokenRefused, match="expired"):
            await checks.claims(run_of(back(expired)), None)
    assert await checks.claims(run_of(back(issuer.token())), None)
    with pytest.raises(TokenRefused, match="expired"):
        await checks.claims(run_of(message("a", obo_token=expired)), None)


@pytest.mark.parametrize(
    ("needs", "token", "missing"),
    [
        ([], None, None),
        ([], {}, None),
        (["orders"], {"scope": "orders accounts"}, None),
        (["orders", "accounts"], {"scp": ["accounts", "orders"]}, None),
        (
            ["accounts"],
            {"scope": "orders"},
            "'pay' needs the scope 'accounts', which the token of the user does not have",
        ),
        (["b", "a", "orders"], {"scope": "orders"}, "'pay' needs the scopes 'a', 'b', which the token"),
        (["accounts"], {"scope": "account accounts:read Accounts"}, "'pay' needs the scope 'accounts'"),
        (["accounts"], {}, "'pay' needs the scope 'accounts'"),
        (["accounts"], None, "'pay' needs the scope 'accounts', and the workflow runs for no user"),
    ],
)
async def test_a_step_needs_the_scopes_of_its_activity(issuer, needs, token, missing):
    """And its compensation needs the same ones."""
    activity = Activity(lambda: None, name="pay", scopes=needs)
    activity.compensate(lambda: None)
    tokens = Tokens.of(load_settings(**issuer.settings))
    one = message("pay", obo_token=None if token is None else issuer.token(**token))
    for which in (activity, activity.compensation):
        if missing is None:
            await users(tokens).claims(run_of(one), which)
        else:
            with pytest.raises(ScopesMissing) as refused:
                await users(tokens).claims(run_of(one), which)
            assert missing in str(refused.value)


async def test_a_worker_that_cannot_check_a_token_refuses_it():
    """The error says what to set."""
    with pytest.raises(TokenRefused, match="PAIGEANT_OBO_ISSUER"):
        await users(None).claims(run_of(message("a", obo_token="x")), None)


def unknowing(patience: float) -> Any:
    async def claims(*_: Any, **__: Any) -> Any:
        raise KeyUnknown("no such key", again_in=7.0)

    return SimpleNamespace(claims=claims, key_patience=patience)


async def outcome_of(run: Run, patience: float = 600.0) -> Returned:
    with pytest.raises(KeyUnknown) as unknown:
        await users(unknowing(patience)).claims(run, None)
    return without_keys(run, unknown.value)


async def test_a_message_carries_since_when_its_key_is_unknown():
    """Across workers and restarts: the time of the first return stays."""
    one = message("a", obo_token="x")
    first = await outcome_of(run_of(one))
    assert first == Returned("no such key", 7.0, grows=True, most=7.0, headers={UNKNOWN_SINCE: f"{NOW:.0f}"})
    second = await outcome_of(run_of(one, NOW + 599, since=first.headers[UNKNOWN_SINCE]))
    assert second.headers == first.headers
    with pytest.raises(TokenRefused, match="no such key"):
        await users(unknowing(600.0)).claims(run_of(one, NOW + 600, since=first.headers[UNKNOWN_SINCE]), None)


@pytest.mark.parametrize("said", [f"{NOW + 10**6:.0f}", "9" * 400, "-1", "soon", "", "NaN"])
async def test_a_time_that_cannot_be_right_counts_as_now(said):
    """So no sender makes a message wait for ever."""
    assert (await outcome_of(run_of(message("a", obo_token="x"), since=said))).headers == {UNKNOWN_SINCE: f"{NOW:.0f}"}


def test_keys_that_cannot_be_fetched_start_no_patience():
    """The fault is the issuer's."""
    returned = without_keys(run_of(message("a")), KeysUnavailable("down", again_in=12.0))
    assert returned == Returned("down", 12.0, grows=True, most=12.0)
