"""Agent steps that cannot work, for all kinds of reasons: each is told clearly, and the worker goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import until_async
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from paigeant import ActivitySpec
from paigeant.errors import MessageTooLarge

pytestmark = pytest.mark.anyio

SOON = 20
LIMIT = 100_000


class Customer(BaseModel):
    name: str


@dataclass
class Bad:
    """A step, how its workflow stands in the end, and what is said of it."""

    step: ActivitySpec
    status: str
    said: str


IMPORTS = {"__class__": "evil:Evil", "py/object": "evil.Evil", "module": "evil", "name": {"$type": "evil.Evil"}}

BAD = {
    "asks to import a class": Bad(
        ActivitySpec(name="greeter", prompt="x", deps=IMPORTS),
        "failed",
        "parameter 'deps' (argument): name: Input should",
    ),
    "is named like a class": Bad(ActivitySpec(name="evil:Evil", prompt="x", queue="greeter"), "running", ""),
    "deps of the wrong shape": Bad(
        ActivitySpec(name="greeter", prompt="x", deps=["Ann"]),
        "failed",
        "InvalidInput: activity 'greeter', parameter 'deps' (argument): Input",
    ),
    "prompt of the wrong shape": Bad(
        ActivitySpec(name="greeter", arguments={"prompt": {"a": 1}}),
        "failed",
        "parameter 'prompt' (argument): Input should be a valid string",
    ),
    "result that cannot be written": Bad(
        ActivitySpec(name="lister", prompt="x"),
        "failed",
        "NotSerializable: the result of tool 'handle' cannot be written as JSON",
    ),
    "unknown model": Bad(ActivitySpec(name="unknown", prompt="x"), "failed", "UserError: Unknown model: nonsense-1"),
    "unknown provider": Bad(ActivitySpec(name="nobody", prompt="x"), "failed", "nobody"),
    "missing key": Bad(ActivitySpec(name="keyless", prompt="x"), "parked", "UserError: Set the `PROVIDER_API_KEY`"),
}


def keyless(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    raise UserError("Set the `PROVIDER_API_KEY` environment variable or pass it via `Provider(api_key=...)`")


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module that must not be imported."""
    (tmp_path / "evil.py").write_text("class Evil: ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    assert "evil" not in sys.modules


@pytest.fixture
def agents(make_app, tmp_path, monkeypatch, evil) -> Any:
    """A worker's App, and that of a sender who knows nothing of its agents."""
    monkeypatch.setenv("PAIGEANT_VALUE_LIMIT", str(LIMIT))
    app, sender = (make_app(f"sqlite:///{tmp_path / 'here.db'}") for _ in range(2))
    app.activity(Agent(TestModel(custom_output_text="Hello!"), deps_type=Customer), name="greeter")
    lister = Agent(TestModel())
    lister.tool_plain(name="handle")(lambda: object())
    app.activity(lister, name="lister")
    app.activity(Agent("nonsense-1", defer_model_check=True), name="unknown")
    app.activity(Agent("nobody:nothing", defer_model_check=True), name="nobody")
    app.activity(Agent(FunctionModel(keyless)), name="keyless")
    return app, sender


async def test_each_is_told_and_the_worker_goes_on(agents, running):
    """One worker has all of them, one after the other, and a good step after each."""
    app, sender = agents
    found = {}
    async with running(app):
        for case, bad in BAD.items():
            workflow = await sender.dispatch(bad.step)
            good = await sender.dispatch(ActivitySpec(name="greeter", prompt="x", deps={"name": "Ann"}))
            assert await good.result(SOON) == "Hello!"

            async def stands(workflow: Any = workflow, bad: Bad = bad) -> bool:
                record = await workflow.record()
                return bad.status in (record.status.value, record.steps[0].status)

            await until_async(stands, SOON)
            (step, *_) = (await workflow.record()).steps
            found[case] = f"{step.error.type}: {step.error.message}" if step.error else ""
    assert {case: bad.said for case, bad in BAD.items() if bad.said not in found[case]} == {}, found


async def test_an_oversized_prompt_is_refused_when_it_is_dispatched(agents):
    """Named with its size and the limit; nothing is sent."""
    app, _ = agents
    with pytest.raises(MessageTooLarge, match=r"prompt.* 200,002 bytes.* 100,000"):
        await app.dispatch(ActivitySpec(name="greeter", prompt="x" * 200_000, deps={"name": "Ann"}))
    assert await app.store.workflows() == []


async def test_an_oversized_message_from_elsewhere_is_set_aside(agents, running):
    """Of a sender with other limits: with the reason, and the worker goes on."""
    app, sender = agents
    sender.settings = sender.settings.model_copy(
        update={"message_limit": 10**8, "claim_check_from": 10**8, "value_limit": 10**8}
    )
    workflow = await sender.dispatch(ActivitySpec(name="greeter", prompt="x" * 2_000_000, deps={"name": "Ann"}))
    async with running(app):
        await until_async(app.dead_letters.list, SOON)
        good = await sender.dispatch(ActivitySpec(name="greeter", prompt="x", deps={"name": "Ann"}))
        assert await good.result(SOON) == "Hello!"
    (letter,) = await app.dead_letters.list()
    assert letter.kind.value == "refused"
    assert "MessageTooLarge: the message is 2,000," in letter.reason
    assert (await workflow.status()).value == "running"  # nobody could read whose message it was
