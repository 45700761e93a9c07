"""Workflows that run on behalf of a user: the token travels, is checked before each step, and is shown to nobody."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers import until_async
from http_server import answering
from sts import Role, SecurityTokenService
from tokens import AUDIENCE, ISSUER, Issuer

from paigeant import ActivityContext, App
from paigeant.cli import cli
from paigeant.errors import ConfigurationError, WorkflowFailed
from paigeant.transport import Outgoing

pytestmark = pytest.mark.anyio

SOON = 20


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, issuer: Issuer) -> None:
    """By the environment, as workers are."""
    for name, value in issuer.settings.items():
        monkeypatch.setenv(f"PAIGEANT_{name.upper()}", value)


@pytest.fixture
def make(make_app: Callable[..., App], tmp_path: Path) -> Callable[[], App]:
    def made() -> App:
        app = make_app(f"sqlite:///{tmp_path / 'here.db'}")
        app.activity(who)
        app.activity(sender)
        return app

    return made


def who(ctx: ActivityContext) -> list[Any]:
    return [ctx.principal, dict(ctx.user_claims) if ctx.user_claims is not None else None]


def sender(ctx: ActivityContext) -> str:
    return ctx.dispatch("who")


async def test_each_step_knows_on_whose_behalf_it_runs(told, make, running, issuer):
    """Those of workflows that a step dispatches as well."""
    app = make()
    async with running(app):
        workflow = await app.dispatch("who", "sender", obo_token=issuer.token(role="clerk"))
        child = await workflow.result(SOON)
        principal, claims = await app.workflow(child).result(SOON)
        records = [await app.workflow(one).record() for one in (workflow.correlation_id, child)]
        told = [event async for event in workflow.events() if event.type == "workflow_dispatched"]
    assert (principal, claims["role"]) == ("ann", "clerk")
    user = {"issuer": claims["iss"], "subject": "ann"}
    assert [record.user for record in records] == [user, user]
    assert [event.data["user"] for event in told] == [user]


async def test_a_workflow_may_run_on_nobodys_behalf(told, make, running):
    """Then there is no user, and no claim."""
    app = make()
    async with running(app):
        assert await (await app.dispatch("who")).result(SOON) == [None, None]


async def test_nothing_is_dispatched_with_a_token_that_nobody_would_check(make, issuer):
    """The error says what to set."""
    with pytest.raises(ConfigurationError) as refused:
        make().dispatch("who", obo_token=issuer.token())
    assert "PAIGEANT_OBO_ISSUER" in str(refused.value.hint)


@pytest.mark.parametrize("wrong", ["expired", "forged", "worker without settings"])
async def test_a_token_that_is_not_valid_stops_the_step_before_it_begins(
    told, make, running, issuer, monkeypatch, wrong
):
    """Its message is set aside with the reason; the worker goes on, and an operator can give another token."""
    app, ran = make(), []
    app.activity(name="act")(lambda: ran.append(1))
    token = {"expired": issuer.token(exp=1000), "forged": Issuer().token()}.get(wrong, issuer.token())
    workflow = await app.dispatch("act", obo_token=token)
    if wrong == "worker without settings":
        app.tokens = None
    async with running(app):
        await until_async(app.dead_letters.count, SOON)
        assert await (await app.dispatch("who")).result(SOON) == [None, None]
        assert await workflow.status() == "running"  # the message may be a stranger's
    (letter,) = await app.dead_letters.list(workflow=str(workflow))
    assert re.match(r"TokenRefused: the (token of the user|workflow carries the token)", letter.reason)
    assert (letter.kind.value, letter.code, letter.claimed, ran) == ("untrusted", "token", str(workflow), [])
    app.__dict__.pop("tokens")
    await app.dead_letters.edit(letter.id, obo_token=issuer.token())
    await app.dead_letters.redrive(letter.id)
    async with running(app):
        await workflow.result(SOON)
    assert ran == [1]


async def test_while_keys_cannot_be_fetched_the_step_waits(told, make, running, issuer, monkeypatch):
    """It is given back, and runs when they can be."""
    monkeypatch.setattr("paigeant.security.issuer.REFRESH_EVERY", 0.05)
    answers = [(500, "down")] * 2 + [(200, json.dumps(issuer.keys))] * 9
    with answering(lambda _: answers.pop(0)) as (url, asked):
        monkeypatch.delenv("PAIGEANT_OBO_PUBLIC_KEY")
        monkeypatch.setenv("PAIGEANT_OBO_JWKS_URL", url)
        app = make()
        async with running(app):
            workflow = await app.dispatch("who", obo_token=issuer.token())
            assert (await workflow.result(SOON))[0] == "ann"
    assert len(asked) == 3


async def test_a_key_that_stays_unknown_is_waited_for_and_then_refused(told, make, running, issuer, monkeypatch):
    """The wait is not counted as a fault; a step whose key is known runs meanwhile."""
    monkeypatch.setattr("paigeant.security.issuer.REFRESH_EVERY", 0.05)
    with answering(lambda _: (200, json.dumps(issuer.keys))) as (url, _):
        monkeypatch.delenv("PAIGEANT_OBO_PUBLIC_KEY")
        monkeypatch.setenv("PAIGEANT_OBO_JWKS_URL", url)
        monkeypatch.setenv("PAIGEANT_OBO_KEY_PATIENCE", "0.5")
        app = make()
        async with running(app):
            await app.dispatch("who", obo_token=issuer.token({"kid": "later"}))
            assert (await (await app.dispatch("who", obo_token=issuer.token())).result(SOON))[0] == "ann"
            (letter,) = await until_async(app.dead_letters.list, SOON)
    assert letter.error.type == "TokenRefused"
    assert "publishes no key with the id that the token names, 'later'" in letter.error.message


async def test_what_was_done_is_taken_back_although_the_token_has_expired(told, make, running, issuer):
    """It was done on the user's behalf while it was valid."""
    app, undone = make(), []

    @app.activity
    def book() -> str:
        return "seat"

    @book.compensate
    def cancel(ctx: ActivityContext) -> None:
        undone.append(ctx.principal)

    @app.activity
    def fail() -> None:
        raise ValueError("no")

    async def expired(token: str, *, expires: bool = True) -> Any:
        return await checks.claims(issuer.token(exp=1000) if not expires else token, expires=expires)

    checks = app.tokens
    app.tokens = type("Later", (), {"claims": staticmethod(expired)})()
    async with running(app):
        workflow = await app.dispatch("book", "fail", obo_token=issuer.token())
        with pytest.raises(WorkflowFailed):
            await workflow.result(SOON)
    assert undone == ["ann"]


async def test_a_message_cannot_waive_the_expiry_of_its_own_token(told, make, running, issuer):
    """It says that its workflow is being compensated, and the store does not know of that."""
    app, undone = make(), []
    app.activity(name="pay")(lambda amount: amount).compensate(lambda amount: undone.append(amount))
    step = {"id": "1", "name": "pay", "arguments": {"amount": 5000}}
    slip = {"itinerary": [step], "heading": "back", "fault": {"step": "9", "type": "X"}}
    forged = {"spec_version": "1.2", "correlation_id": "forged", "routing_slip": slip}
    body, queue = json.dumps(forged | {"obo_token": issuer.token(exp=1000)}).encode(), f"{app.prefix}.pay"
    async with running(app):
        await app.transport.send([Outgoing(queue=queue, body=body, id="forged")])
        (letter,) = await until_async(app.dead_letters.list, SOON)
    assert "has expired" in letter.error.message
    assert undone == []


async def test_a_token_is_shown_to_nobody(told, make, running, issuer, tmp_path, caplog, capsys):
    """Not in logs, nor in the history, nor by a command; the message that waits has it, and has to."""
    app, token = make(), issuer.token()

    @app.activity
    def fail(ctx: ActivityContext) -> None:
        ctx.logger.info("about to fail", message=ctx.message)
        raise ValueError(f"no {ctx.message!r}")

    @app.activity
    def wait(ctx: ActivityContext) -> None:
        ctx.await_signal("go")

    with caplog.at_level("DEBUG"):
        async with running(app):
            failing = await app.dispatch("fail", obo_token=token)
            waiting = await app.dispatch("wait", obo_token=token)
            with pytest.raises(WorkflowFailed):
                await failing.result(SOON)
            await until_async(lambda: app.store.held(str(waiting)), SOON)
        (letter,) = await app.dead_letters.list()
    said = [caplog.text, *capsys.readouterr()]
    said += [repr([event async for event in one.events()]) for one in (failing,)]
    for one in (failing, waiting):
        said += [repr(await one.record())]
    await app.close()
    url = f"sqlite:///{tmp_path / 'here.db'}"
    commands = (
        *(["workflow", str(failing), *more] for more in ([], ["--json"])),
        *(["dlq", "show", str(letter.id), *more] for more in ([], ["--json"])),
        ["dlq", "export", str(letter.id)],
        *(["events", str(failing), *more] for more in ([], ["--json"])),
        ["waiting", "--json"],
        ["workflows", "--json"],
    )
    for arguments in commands:
        done = await asyncio.to_thread(CliRunner().invoke, cli, [*arguments, "--store", url])
        assert done.exit_code == 0, (arguments, done.output)
        said.append(done.output)
    signature = token.rpartition(".")[2]
    assert [text for text in said if signature in text] == []
    assert tables_with(signature, tmp_path / "here.db") == {"paigeant_dead_letter", "paigeant_wait"}


def tables_with(text: str, path: Path) -> set[str]:
    """The tables of a database that contain a text in any column."""
    with sqlite3.connect(path) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {one for one in tables if text in str(database.execute(f"SELECT * FROM {one}").fetchall())}


ROLE = "arn:aws:iam::123456789012:role/clerk"


async def test_aws_gives_credentials_for_the_token(told, make, running, issuer):
    """Those of the role, for a session that has the user's name."""
    pytest.importorskip("boto3")
    app, token = make(), issuer.token(sub="ann smith")

    @app.activity
    def enter(ctx: ActivityContext, url: str) -> list[str]:
        session = ctx.assume_web_identity(ROLE, region="eu-west-1", endpoint_url=url)
        found = session.get_credentials()
        return [
            found.access_key,
            found.token,
            session.region_name,
            session.client("sts", endpoint_url=url).get_caller_identity()["Arn"],
        ]

    aws = SecurityTokenService({ISSUER: issuer.keys}, {ROLE: Role(ISSUER, AUDIENCE)})
    with aws.running() as url:
        async with running(app):
            workflow = await app.dispatch(enter.step(url=url), obo_token=token)
            key, *rest = await workflow.result(SOON)
    ((known, arn),) = aws.sessions.items()
    assert [key, *rest] == [known, "session of ann-smith", "eu-west-1", arn]
    assert arn == "arn:aws:sts::123456789012:assumed-role/clerk/ann-smith"
    assert aws.asked[0].form["DurationSeconds"] == "3600"


async def test_without_a_user_there_are_no_credentials(told, make, running):
    """It says what is missing."""
    app = make()

    @app.activity
    def enter(ctx: ActivityContext) -> None:
        ctx.assume_web_identity("arn:aws:iam::123456789012:role/clerk")

    async with running(app):
        with pytest.raises(WorkflowFailed, match="ConfigurationError: the workflow runs on nobody's behalf"):
            await (await app.dispatch("enter")).result(SOON)
