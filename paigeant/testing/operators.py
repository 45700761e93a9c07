"""The operators of a simulated world: they act on workflows and answer waits for a person."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, get_args

from paigeant.app import App
from paigeant.decisions.forward import OPERATOR
from paigeant.errors import PaigeantError, WorkflowNotFound
from paigeant.records.workflow import Held, Status
from paigeant.testing.remaining import unanswerable
from paigeant.testing.witnesses import Accepted, Asked, Decided, Overruled, RequestRejected, Used
from paigeant.wire.approval import KEY as APPROVAL
from paigeant.workflow import Workflow

if TYPE_CHECKING:
    from paigeant.testing.world import World

Wish = Literal[
    "cancel", "compensate", "pause", "resume", "retry", "fresh", "redrive", "fork", "approve", "deny", "signal"
]
"""An operator's request for a workflow. ``compensate`` is a cancel with compensation, ``fresh`` a fresh retry."""

SIGNAL = "signal:"
_MOST = 1000
_THOUGHT = 1.0
"""Maximum seconds until a person answers a question."""

_PATIENCE = 20
"""Rounds of answers after which operators cancel the workflows that still wait."""


@dataclass(frozen=True, slots=True)
class Act:
    """An operator's act on a workflow, ``at`` seconds after the start.

    ``of`` is the workflow's id. ``is_beside``: the operator uses the second App, even for workflows of the first.
    ``name`` is the name of a signal, or of the step at which a fork starts.
    """

    at: float
    do: Wish
    of: str = "workflow-1"
    is_beside: bool = False
    name: str = ""

    @classmethod
    def drawn(
        cls,
        dice: random.Random,
        workflows: Sequence[str],
        wishes: Sequence[Wish] = get_args(Wish),
        *,
        until: float = 6.0,
        names: Sequence[str] = ("go",),
    ) -> Act:
        """Draw a random act: a wish, a workflow, a name and a time before ``until``."""
        at = round(dice.uniform(0.0, until), 3)
        return cls(at, dice.choice(list(wishes)), dice.choice(list(workflows)), name=dice.choice(list(names)))


class Operators:
    """The operators who steer the workflows of a world, from processes without faults."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = count(1)
        self._rounds = 0

    # --- acts of a script -------------------------------------------------------------------------------------

    async def do(self, act: Act) -> None:
        """Do this act at its time. A rejected act is not an error."""
        await asyncio.sleep(act.at)
        client = self._world.clients[1 if act.is_beside and len(self._world.clients) > 1 else 0]
        workflow = client.workflow(act.of)
        await self._noted(act.do, act.of, self._done(act, client, workflow))

    async def _done(self, act: Act, client: App, workflow: Workflow) -> None:
        match act.do:
            case "cancel" | "compensate":
                await workflow.cancel(compensate=act.do == "compensate", by="operator")
            case "pause":
                await workflow.pause(by="operator")
            case "resume":
                await workflow.resume(by="operator")
            case "retry" | "fresh":
                await workflow.retry(by="operator", fresh=act.do == "fresh")
            case _:
                await self._answered(act, client, workflow)

    async def _answered(self, act: Act, client: App, workflow: Workflow) -> None:
        match act.do:
            case "redrive":
                for letter in await client.dead_letters.list(workflow=act.of):
                    await client.dead_letters.redrive(letter.id, by="operator")
            case "approve" | "deny":
                for row in await self._world.store.held(act.of, APPROVAL, _MOST):
                    await asyncio.sleep(self._world.dice.uniform(0.0, _THOUGHT))  # another operator may answer first
                    await self._decide(client, row, approved=act.do == "approve")
            case "fork":
                await workflow.fork(act.name, id=f"{act.of}-fork-{act.at:g}")
            case "signal":
                await workflow.signal(act.name, act.at, by="operator")

    async def _noted(self, wish: Wish, workflow: str, doing: Awaitable[None]) -> bool:
        number, history = next(self._numbers), self._world.history
        history.add(Asked(number=number, act=wish, workflow=workflow))
        try:
            await doing
        except PaigeantError as error:
            history.add(RequestRejected(number=number, act=wish, workflow=workflow, why=str(error)))
            return False
        history.add(Accepted(number=number, act=wish, workflow=workflow))
        return True

    async def _decide(self, client: App, row: Held, *, approved: bool) -> None:
        """Answer the question of this row, as the person has seen it."""
        of, question, history = row.correlation_id, row.question, self._world.history
        history.add(Decided(workflow=of, question=question, approved=approved))
        try:
            await client.workflow(of).decide(approved, question=question, by="operator")
        except PaigeantError:
            history.add(Overruled(workflow=of, question=question, approved=approved))
            raise

    # --- answers to what waits --------------------------------------------------------------------------------

    async def attend(self) -> bool:
        """Answer waits for a person and resume paused workflows; returns whether there was anything to do."""
        dice, acted = self._world.dice, False
        for paused in self._paused():
            acted |= await self._noted("resume", paused, self._client(paused).workflow(paused).resume())
        for row in await self._world.store.held(None, "", _MOST):
            client, of = self._client_of(row.queue), row.correlation_id
            workflow = client.workflow(of)
            if row.value is not None or row.key.startswith("pause"):
                continue
            if self._rounds > _PATIENCE and row.key.startswith((APPROVAL, SIGNAL, OPERATOR)):
                acted |= await self._noted("cancel", of, workflow.cancel())
            elif row.key.startswith(APPROVAL):
                approved = dice.random() < 0.7
                wish: Wish = "approve" if approved else "deny"
                acted |= await self._noted(wish, of, self._decide(client, row, approved=approved))
            elif row.key.startswith(SIGNAL):
                acted |= await self._noted("signal", of, workflow.signal(row.key.removeprefix(SIGNAL), 1))
            elif row.key.startswith(OPERATOR):
                wish = dice.choice(("retry", "fresh", "compensate"))
                act = Act(0.0, wish, of)
                acted |= await self._noted(wish, of, self._done(act, client, workflow))
        self._rounds += acted
        return acted

    def _paused(self) -> list[str]:
        """The paused workflows whose parents are not paused."""
        rows = self._world.store.rows(
            "SELECT correlation_id, parent, status FROM paigeant_workflow ORDER BY created_at, 1"
        )
        paused = {workflow for workflow, _, status in rows if status == Status.PAUSED}
        return [workflow for workflow, parent, _ in rows if workflow in paused and parent not in paused]

    def _client(self, workflow: str) -> App:
        [(app,)] = self._world.store.rows(f"SELECT app FROM paigeant_workflow WHERE correlation_id = '{workflow}'")
        return next((one for one in self._world.clients if one.name == app), self._world.clients[0])

    def _client_of(self, queue: str) -> App:
        """The App to whose queues this one belongs."""
        clients = self._world.clients
        return next((one for one in clients if queue.startswith(f"{one.prefix}.")), clients[0])

    # --- at the end -------------------------------------------------------------------------------------------

    async def look_back(self, *, is_at_rest: bool) -> None:
        """Record the agents' usage and, if the run is idle, the waits that nobody can answer."""
        if is_at_rest:
            for fact in unanswerable(self._world.store, self._world.clock.now()):
                self._world.history.add(fact)
        for (workflow,) in self._world.store.rows(
            "SELECT correlation_id FROM paigeant_workflow WHERE status = 'completed'"
        ):
            used: Any = (await self._found(workflow)).used
            self._world.history.add(Used(workflow=workflow, requests=used.requests, tool_calls=used.tool_calls))

    async def _found(self, workflow: str) -> Any:
        record = await self._world.store.brief(workflow)
        if record is None:
            raise WorkflowNotFound(f"no workflow {workflow!r}", correlation_id=workflow)
        return record
