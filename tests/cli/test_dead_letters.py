"""Dead letters, retries and forks from the command line, and what it says when they cannot be done."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from helpers import until_async

from paigeant import ActivitySpec, App, Worker
from paigeant.cli import cli
from paigeant.transport import Outgoing

FAILED, OTHER = "0400-failed", "0401-other"

SHOP = """
from pathlib import Path

from paigeant import App

app = App("shop")


@app.activity
def order(item: str) -> str:
    return item


@app.activity
def pay(item: str, price: int) -> str:
    if not Path("bank-is-up").exists():
        raise ConnectionError("bank is down")
    return f"{item} for {price}"
"""

CLEARS_THE_SCREEN = b"\x1b[2J\xc2\x9b2Jgarbage"


def load(folder: Path, **options: Any) -> App:
    namespace: dict[str, Any] = {}
    exec(compile(SHOP, "shop.py", "exec"), namespace)
    app: App = namespace["app"]
    app.use(broker=f"sqlite:///{folder / 'paigeant.db'}", **options)
    return app


async def work(app: App, until: Callable[[], Any]) -> None:
    """Serve until that holds."""
    worker = Worker(app)
    serving = asyncio.ensure_future(worker.run())
    try:
        await until_async(until, 30)
    finally:
        worker.stop()
        await serving
        await app.close()


async def fill(folder: Path, *, store: str | None = None) -> None:
    app = load(folder, store=store)
    for id, item in ((FAILED, "lamp"), (OTHER, "sofa")):  # noqa: A001
        await app.dispatch("order", "pay", variables={"item": item, "price": 5}, id=id)
    await app.transport.send([Outgoing(queue="shop.pay", body=CLEARS_THE_SCREEN)])

    async def all_set_aside() -> bool:
        return await app.dead_letters.count() == 3

    await work(app, all_set_aside)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PAIGEANT_BROKER_URL", f"sqlite:///{tmp_path / 'paigeant.db'}")
    yield tmp_path
    sys.modules.pop("shop", None)  # which commands here import


@pytest.fixture
def paigeant(folder: Path) -> Callable[..., Result]:
    """Runs a command in this process; it must exit with ``code``."""
    asyncio.run(fill(folder))
    return run


def run(*arguments: str, code: int = 0, **options: Any) -> Result:
    done = CliRunner().invoke(cli, arguments, standalone_mode=True, **options)
    assert done.exit_code == code, done.output
    return done


def said(done: Result) -> Any:
    return json.loads(done.stdout)


def finish(folder: Path, workflow: str) -> Any:
    """Have a worker end the workflow; its output."""
    (folder / "bank-is-up").touch()
    app = load(folder)

    async def ended() -> bool:
        return (await app.workflow(workflow).status()).is_terminal

    async def served() -> Any:
        await work(app, ended)
        try:
            return (await app.workflow(workflow).record()).output
        finally:
            await app.close()

    return asyncio.run(served())


def letters(*filters: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = said(run("dlq", "list", "--json", *filters))
    return found


def test_letters_are_listed_and_shown(paigeant: Callable[..., Result]) -> None:
    """With why they were set aside, what they carry and the attempts of their step."""
    assert [one["kind"] for one in letters("--kind", "exhausted")] == ["exhausted", "exhausted"]
    (letter,) = letters("--workflow", "0400", "--error", "ConnectionError", "--newer-than", "1h")
    assert (letter["activity"], letter["queue"], letter["correlation_id"]) == ("pay", "shop.pay", FAILED)
    assert letters("--older-than", "1h") == []
    table = paigeant("dlq", "list", "--activity", "pay").stdout
    assert "exhausted" in table
    assert "ConnectionError: bank is down" in table
    shown = said(paigeant("dlq", "show", str(letter["id"]), "--json"))
    assert shown["message"]["routing_slip"]["variables"] == {"item": "lamp", "price": 5}
    assert [one["status"] for one in shown["history"]] == ["failed"]
    people = paigeant("dlq", "show", str(letter["id"])).stdout
    for part in ("bank is down", "Traceback", '{"item": "lamp", "price": 5}', "1 order", "epoch 0"):
        assert part in people


def test_what_cannot_be_read_does_nothing_to_a_terminal(paigeant: Callable[..., Result], folder: Path) -> None:
    """It is shown as ASCII, exported byte by byte, and not sent again."""
    (letter,) = letters("--kind", "unreadable")
    id = str(letter["id"])  # noqa: A001
    shown = paigeant("dlq", "show", id).stdout
    assert r"\x1b[2J\xc2\x9b2Jgarbage" in shown
    assert shown.isascii()
    assert shown.replace("\n", "").isprintable()
    out = folder / "letters.jsonl"
    paigeant("dlq", "export", id, "-o", str(out))
    exported = json.loads(out.read_text())
    assert out.stat().st_mode & 0o777 == 0o600
    assert base64.b64decode(exported["body"]) == CLEARS_THE_SCREEN
    assert (exported["message"], "not a paigeant message" in exported["unreadable"]) == (None, True)
    assert "name another file" in paigeant("dlq", "export", id, "-o", str(out), code=2).stderr
    refused = paigeant("dlq", "redrive", id, code=1).stderr
    assert f"paigeant dlq discard {id}" in refused
    assert paigeant("dlq", "discard", id, "--yes").stdout == "1 discarded\n"
    assert f"there is no dead letter {id!r}" in paigeant("dlq", "show", id, code=3).stderr


def test_a_letter_is_edited_and_sent_again(paigeant: Callable[..., Result], folder: Path) -> None:
    """With the App named its arguments are checked."""
    (letter,) = letters("--workflow", FAILED)
    id = str(letter["id"])  # noqa: A001
    wrong = paigeant("dlq", "edit", id, "-A", "shop", "--input", '{"prise": 1}', code=2).stderr
    assert "did you mean 'price'?" in wrong
    assert "--deadline 3600" in paigeant("dlq", "edit", id, "--deadline", "soon", code=2).stderr
    paigeant(
        "dlq", "edit", id, "-A", "shop", "--input", '{"price": 7}', "--variables", '{"item": "vase"}', "--by", "ada"
    )
    assert said(paigeant("dlq", "redrive", id, "--by", "ada", "--json")) == {"done": [id], "refused": []}
    assert finish(folder, FAILED) == "vase for 7"
    assert "dead_letter_redriven" in paigeant("events", FAILED).stdout


def test_many_are_sent_again_when_somebody_has_agreed(paigeant: Callable[..., Result], folder: Path) -> None:
    """Unasked nothing happens, and what cannot be sent again is told."""
    assert "ids, or filters, or --all" in paigeant("dlq", "redrive", code=2).stderr
    assert "add: --yes, or --dry-run" in paigeant("dlq", "redrive", "--all", code=2).stderr
    assert len(said(paigeant("dlq", "redrive", "--queue", "shop.pay", "--dry-run", "--json"))) == 3
    assert len(letters()) == 3
    done = paigeant("dlq", "redrive", "--queue", "shop.pay", "--yes", code=1)
    assert done.stdout == "2 redriven\n"
    assert "cannot be read" in done.stderr
    assert finish(folder, OTHER) == "sofa for 5"
    assert said(paigeant("dlq", "discard", "--all", "--yes", "--json"))["refused"] == []
    assert letters() == []


def test_a_name_that_no_letter_has_is_remarked_on(paigeant: Callable[..., Result]) -> None:
    """With the nearest one."""
    assert "did you mean 'pay'?" in paigeant("dlq", "list", "--activity", "pya").stderr
    assert "did you mean 'redrive'?" in paigeant("dlq", "redrvie", code=2).stderr
    assert "is not an age" in paigeant("dlq", "list", "--older-than", "long", code=2).stderr


def test_a_failed_workflow_is_retried(paigeant: Callable[..., Result], folder: Path) -> None:
    """Once; the second time there is nothing to retry."""
    assert said(paigeant("retry", "0400", "--json")) == {"correlation_id": FAILED, "steps": ["2"]}
    again = paigeant("retry", "0400", code=1).stderr
    assert "is running" in again
    assert finish(folder, FAILED) == "lamp for 5"
    over = paigeant("retry", "0400", code=1).stderr
    assert f"paigeant fork {FAILED} --from STEP" in over


def test_a_workflow_is_forked(paigeant: Callable[..., Result], folder: Path) -> None:
    """From a step, with other arguments; the fork says where it is from."""
    fork = ("fork", "0400", "--from", "pay", "--input", '{"price": 3}', "--id", "fork-1", "-A", "shop")
    assert paigeant(*fork).stdout == "fork-1\n"
    assert finish(folder, "fork-1") == "lamp for 3"
    shown = said(paigeant("workflow", "fork-1", "--json"))
    assert (shown["forked_from"], [step["activity"] for step in shown["steps"]]) == (FAILED, ["pay"])
    assert FAILED in paigeant("workflow", "fork-1").stdout
    assert said(paigeant("workflow", FAILED, "--json"))["status"] == "failed"
    assert "did you mean 'order'?" in paigeant("fork", "0400", "--from", "ordr", code=2).stderr
    assert "takes no argument 'cost'" in paigeant(*fork[:4], "--input", '{"cost": 3}', "-A", "shop", code=2).stderr
    assert "no workflow" in paigeant("fork", "nobody", "--from", "pay", code=3).stderr


def test_without_a_store_it_is_said_what_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters are in the queue of an App, so it has to be named; retries and forks need a store."""
    asyncio.run(fill(folder, store="none"))
    monkeypatch.setenv("PAIGEANT_STORE_URL", "none")
    assert "-A APP" in run("dlq", "list", code=2).stderr
    found = said(run("dlq", "list", "-A", "shop", "--json"))
    assert sorted(one["kind"] for one in found) == ["exhausted", "exhausted", "unreadable"]
    assert said(run("dlq", "show", "-A", "shop", found[0]["id"], "--json"))["history"] is None
    for command in (("retry", FAILED), ("fork", FAILED, "--from", "pay")):
        assert "--store sqlite:///paigeant.db" in run(*command, "-A", "shop", code=78).stderr


def test_an_edit_is_refused_that_the_message_cannot_carry(
    paigeant: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that changes nothing."""
    monkeypatch.setenv("PAIGEANT_VALUE_LIMIT", "100000")
    (letter,) = letters("--workflow", OTHER)
    assert "nothing to change" in paigeant("dlq", "edit", str(letter["id"]), code=2).stderr
    huge = json.dumps({"item": "x" * 2_000_000})
    (Path.cwd() / "huge.json").write_text(huge)
    assert "'item'" in paigeant("dlq", "edit", str(letter["id"]), "--variables", "@huge.json", code=2).stderr


def test_steps_of_activities_nobody_here_knows_are_taken_as_they_are(paigeant: Callable[..., Result]) -> None:
    """Their arguments are checked by the worker."""
    assert ActivitySpec(name="pay").arguments == {}
    (letter,) = letters("--workflow", OTHER)
    assert "edited" in paigeant("dlq", "edit", str(letter["id"]), "--input", '{"anything": 1}').stdout
    assert "edited" in paigeant("dlq", "edit", str(letter["id"]), "--without", "anything").stdout
