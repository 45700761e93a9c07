"""The audit trail and single messages from the command line."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from signing import EVERYTHING, Deployment

from paigeant import App
from paigeant.cli import cli
from paigeant.wire.frame import cut, message_of
from paigeant.worker import Worker

Paigeant = Callable[..., Result]


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    made = Deployment(tmp_path)
    made.add("shop", EVERYTHING | {"answer": [], "order": []})
    for setting, value in made.settings("shop").items():
        monkeypatch.setenv(setting, value)
    return made


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'paigeant.db'}"


@pytest.fixture
def paigeant(in_process: Callable[[str], Paigeant], url: str, deployment: Deployment) -> Paigeant:
    return in_process(url)


def shop(url: str) -> App:
    app = App("shop", broker=url)

    @app.activity
    def check(order: str) -> str:
        return order

    @app.activity
    def ship() -> str:
        return "shipped"

    return app


def with_app(url: str, question: Callable[[App], Any]) -> Any:
    async def asked() -> Any:
        app = shop(url)
        try:
            return await question(app)
        finally:
            await app.close()

    return asyncio.run(asked())


@pytest.fixture
def workflow(url: str, paigeant: Paigeant) -> str:
    """A workflow that has completed."""

    async def run(app: App) -> str:
        workflow = await app.dispatch(app.activities["check"].step(order="17"), app.activities["ship"].step())
        await Worker(app, burst=True).run()
        assert await workflow.result(timeout=10) == "shipped"
        return str(workflow)

    return str(with_app(url, run))


@pytest.fixture
def message(url: str, paigeant: Paigeant, tmp_path: Path) -> Path:
    """A file with the bytes of a message as a broker has it."""

    async def dispatched(app: App) -> str:
        return str(await app.dispatch(app.activities["check"].step(order="17"), app.activities["ship"].step()))

    with_app(url, dispatched)
    with closing(sqlite3.connect(tmp_path / "paigeant.db")) as rows:
        [(body,)] = rows.execute("SELECT body FROM paigeant_message").fetchall()
    file = tmp_path / "message"
    file.write_bytes(body)
    return file


def said(paigeant: Paigeant, *arguments: str, code: int = 0) -> Any:
    return json.loads(paigeant(*arguments, "--json", code=code).stdout)


def test_a_trail_is_exported_and_verified_elsewhere(paigeant, workflow, deployment, tmp_path, monkeypatch):
    """With the public keys and the policy only: no store and no private key."""
    exported = paigeant("audit", "export", workflow[:12], "-o", "trail.jsonl")
    assert exported.stderr == "exported 3 statements to trail.jsonl\n"
    lines = [json.loads(line) for line in (tmp_path / "trail.jsonl").read_text().splitlines()]
    assert [(one["type"], one.get("kid")) for one in lines] == [
        ("trail", None),
        ("workflow", None),
        *[("statement", "shop-1")] * 3,
    ]
    for name in ("PAIGEANT_BROKER_URL", "PAIGEANT_SIGNING", "PAIGEANT_SIGNING_KEY", "PAIGEANT_TRUST"):
        monkeypatch.delenv(name)
    (tmp_path / "paigeant.db").unlink()
    (tmp_path / "shop.key").unlink()
    shown = paigeant("audit", "verify", "trail.jsonl", "--trust", deployment.trust).stdout
    assert f"workflow {workflow}  shop  ended: completed" in shown
    assert "completed step 2 ship; the workflow ended: completed" in shown
    [found] = said(paigeant, "audit", "verify", "trail.jsonl", "--trust", deployment.trust)
    assert (found["workflow"], found["status"], found["verified"]) == (workflow, "completed", True)
    assert [(one["key"], one["did"], one["activity"]) for one in found["deeds"]] == [
        ("shop", "dispatched", None),
        ("shop", "completed", "check"),
        ("shop", "completed", "ship"),
    ]


def test_a_trail_is_verified_straight_from_the_store(paigeant, workflow):
    [found] = said(paigeant, "audit", "verify", workflow)
    assert found["faults"] == []


@pytest.mark.parametrize(("line", "code"), [(2, "no-plan"), (3, "missing-link"), (4, "cut")])
def test_a_cut_trail_fails(paigeant, workflow, tmp_path, line, code):
    lines = paigeant("audit", "export", workflow).stdout.splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_text("".join(lines[:line] + lines[line + 1 :]))
    [found] = said(paigeant, "audit", "verify", "cut.jsonl", code=1)
    assert [one["code"] for one in found["faults"]] == [code]
    assert f"({code})" in paigeant("audit", "verify", "cut.jsonl", code=1).stderr


@pytest.mark.parametrize("text", ["", "hello\n", '{"type":"statement"}\n', '{"type":"trail","v":2}\n'])
def test_a_file_that_is_no_trail_is_refused(paigeant, tmp_path, text):
    (tmp_path / "other").write_text(text)
    assert "audit trail" in paigeant("audit", "verify", "other", code=2).stderr


def test_a_message_is_shown_without_keys(paigeant, message, monkeypatch):
    for name in ("PAIGEANT_SIGNING", "PAIGEANT_SIGNING_KEY", "PAIGEANT_TRUST"):
        monkeypatch.delenv(name)
    shown = paigeant("slip", "show", "message").stdout
    assert "key shop-1, audience tests" in shown
    assert "1 check" in shown
    assert "not checked" in shown
    found = said(paigeant, "slip", "show", "message")
    assert found["plan"]["steps"][1][:2] == ["2", "ship"]
    assert found["message"]["routing_slip"]["itinerary"][0]["arguments"] == {"order": "17"}


def test_a_message_is_read_from_standard_input_and_may_be_unsigned(paigeant, message):
    done = CliRunner().invoke(cli, ["slip", "show", "-"], input=message_of(message.read_bytes()))
    assert done.exit_code == 0
    assert "not signed" in done.stdout


def test_a_message_is_judged_as_a_worker_judges_it(paigeant, message, tmp_path, deployment):
    verdict = said(paigeant, "slip", "verify", "message", "--trust", deployment.trust)
    assert (verdict["trusted"], verdict["step"], verdict["doubts"]) == (True, "1 check", [])
    body = message.read_bytes()
    (tmp_path / "edited").write_bytes(body.replace(b'"17"', b'"18"'))
    assert said(paigeant, "slip", "verify", "edited", code=1)["code"] == "other-message"
    (tmp_path / "unsigned").write_bytes(cut(body, len(body)).message)
    assert "not trusted (unsigned)" in paigeant("slip", "verify", "unsigned", code=1).stdout
    deployment.rules["shop"] = {"run": ["*"]}
    deployment.write()
    assert said(paigeant, "slip", "verify", "message", code=1)["code"] == "dispatch"


def test_a_dead_letter_that_was_exported_is_a_message(paigeant, message, tmp_path):
    letter = {"id": "1", "kind": "refused", "body": base64.b64encode(message.read_bytes()).decode()}
    (tmp_path / "letter").write_text(json.dumps(letter) + "\n")
    assert said(paigeant, "slip", "verify", "letter")["trusted"] is True
    (tmp_path / "letters").write_text(f"{json.dumps(letter)}\n{json.dumps(letter)}\n")
    assert "export one" in paigeant("slip", "show", "letters", code=2).stderr


def test_messages_are_compared(paigeant, message, tmp_path):
    body = message_of(message.read_bytes())
    (tmp_path / "a").write_bytes(body)
    (tmp_path / "b").write_bytes(body.replace(b'"17"', b'"18"'))
    assert paigeant("slip", "diff", "a", "a").stdout == ""
    [found] = said(paigeant, "slip", "diff", "a", "b", code=1)
    assert found == {"path": "message.routing_slip.itinerary.[1].arguments.order", "before": "17", "after": "18"}


def test_a_file_that_is_no_message_is_refused(paigeant, tmp_path):
    (tmp_path / "other").write_text("hello")
    assert "not a paigeant message" in paigeant("slip", "show", "other", code=2).stderr
    assert said(paigeant, "slip", "verify", "other", code=1)["code"] == "unsigned"
    assert "cannot read" in paigeant("slip", "show", "missing", code=2).stderr
