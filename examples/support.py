"""Customer support: agents classify a ticket and draft an answer, and a person approves it before it is sent.

    python examples/support.py "The invoice is wrong!"          # runs until somebody has to approve
    paigeant approvals                                          # what is asked
    paigeant approve ID --question QUESTION --by ada            # or: paigeant deny ID --question QUESTION
    paigeant worker -A examples/support.py --burst              # goes on where it was

While it waits, no process runs. Answers go into ``support/sent/``; SUPPORT_FOLDER names another folder.
PAIGEANT_EXAMPLE_MODEL names a real model; without one, stand-ins speak that need no key.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models import Model
from pydantic_ai.models.function import AgentInfo, FunctionModel

from paigeant import Activity, ActivityContext, ActivitySpec, App, RetryPolicy, Worker, await_approval
from paigeant.errors import ConfigurationError

app = App("support")


class Priority(StrEnum):
    LOW = "low"
    HIGH = "high"


class Ticket(BaseModel):
    priority: Priority
    subject: str


def folder() -> Path:
    return Path(os.environ.get("SUPPORT_FOLDER", "support"))


def model(stand_in: Callable[[list[ModelMessage], AgentInfo], ModelResponse]) -> Model | str:
    return os.environ.get("PAIGEANT_EXAMPLE_MODEL") or FunctionModel(stand_in)


def classify(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    text = str(messages[0].parts[-1].content)
    ticket = Ticket(priority=Priority.HIGH if "!" in text else Priority.LOW, subject=" ".join(text.split()[:6]))
    return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, ticket.model_dump(mode="json"))])


def draft(_messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    known = re.search(r'"contacts_before": ?(\d+)', info.instructions or "")
    sorry = "We are sorry that you have to write again. " if known and int(known[1]) else ""
    return ModelResponse(parts=[TextPart(f"Dear customer,\n\n{sorry}we are looking into it and will write tomorrow.")])


# --- the steps -------------------------------------------------------------------------------------------------------

classify_ticket = app.activity(
    Agent(
        model(classify),
        name="classify-ticket-priority",
        output_type=Ticket,
        system_prompt="Judge how urgent a support ticket is, and give it a subject of a few words.",
        defer_model_check=True,
    ),
    retry=RetryPolicy(attempts=3),
)


@app.activity(name="route-to-specialist-team")
def route(ticket: Ticket, ctx: ActivityContext) -> Ticket:
    """What the team is, everything after it can see: it is a variable of the workflow."""
    ctx.variables["team"] = "billing" if re.search("invoice|pay|refund", ticket.subject, re.IGNORECASE) else "product"
    return ticket


@app.activity(name="research-customer-history")
def research(ticket: Ticket, customer: str, ctx: ActivityContext) -> dict[str, object]:
    """How often the customer was answered before, which is what was sent."""
    sent = [json.loads(path.read_text()) for path in (folder() / "sent").glob("*.json")]
    ctx.variables["priority"] = ticket.priority.value
    return {"subject": ticket.subject, "contacts_before": sum(one["to"] == customer for one in sent)}


generate_response = app.activity(
    Agent(
        model(draft),
        name="generate-initial-response",
        system_prompt="Draft a short, kind answer to the customer. Promise nothing.",
        defer_model_check=True,
    ),
    retry=RetryPolicy(attempts=3),
)


@app.activity(name="send-response")
def send(text: str, customer: str, team: str, ctx: ActivityContext) -> Path:
    """Send the answer; its name is the step's key, so that a repetition replaces it with itself."""
    path = folder() / "sent" / f"{ctx.idempotency_key.replace(':', '-')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"to": customer, "from": team, "text": text}, indent=2))
    return path


def itinerary(ticket: str) -> list[Activity[..., Any] | ActivitySpec]:
    return [
        classify_ticket.step(prompt=ticket),
        route,
        research,
        generate_response.step(prompt=f"Answer this ticket:\n{ticket}"),
        await_approval("Send this answer?"),
        send,
    ]


async def main(ticket: str) -> None:
    """Dispatch one workflow and work it off here, until it waits for a person."""
    if app.store is None:
        raise ConfigurationError("approvals wait in a store", hint="set PAIGEANT_STORE_URL")
    workflow = await app.dispatch(*itinerary(ticket), variables={"customer": "grace@example.com"})
    await Worker(app, burst=True).run()
    for waiting in await app.store.held(workflow.correlation_id, "approval:"):
        print(f"{waiting.detail['asks']}\n\n{waiting.detail['details']}\n")
        answer = f"paigeant approve {workflow.correlation_id} --question {waiting.question[:12]} --by you"
        print(f"{answer} && paigeant worker -A {sys.argv[0]} --burst")
    await app.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "The invoice is wrong, again!"))
