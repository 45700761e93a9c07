"""Small worlds of each kind, chosen by a seed: several workflows, operators, faults, two Apps, agents, deployments."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from paigeant import ActivityContext, App, RetryPolicy, await_signal, scatter, sleep
from paigeant.testing import ledger
from paigeant.testing.broker import TIERS, Tier
from paigeant.testing.checker import broken_promises
from paigeant.testing.faults import KINDS, Fault, FaultPlan, Point
from paigeant.testing.operators import Act
from paigeant.testing.world import Deploy, Job, Scene, WorkflowRun, play

POINTS: tuple[Point, ...] = ("claim", "look", "invoke", "record", "settle", "publish", "ack", "note", "send", "take")
STEERING = ("cancel", "compensate", "pause", "resume", "retry", "fresh", "redrive", "signal", "approve", "deny")


@dataclass(frozen=True)
class Schedule:
    """One simulated run: a world, what goes wrong in it, and on which tier."""

    kind: str
    seed: int
    scene: Scene
    tier: Tier
    plan: FaultPlan

    def played(self) -> WorkflowRun:
        return play(self.scene, self.tier, self.plan)

    def problems(self) -> list[str]:
        return broken_promises(self.played().history, self.scene.app.settings.max_deliveries)


def schedule(kind: str, seed: int) -> Schedule:
    """The schedule of this kind with this seed."""
    dice = random.Random(f"{kind} {seed}")
    scene = KINDS_OF_WORLDS[kind](dice)
    return Schedule(kind, seed, scene, dice.choice(list(TIERS)), faults(kind, dice, seed))


def faults(kind: str, dice: random.Random, seed: int) -> FaultPlan:
    """Up to three faults, late enough to strike any workflow of the world; sometimes each message comes twice."""
    drawn = []
    if kind == "hasty":
        return FaultPlan(seed, (Fault("delay", "look", nth=None, after=True, seconds=0.2),))
    if kind == "doubted":
        return FaultPlan(seed, doubts(dice))
    latest = 3 if kind == "tiny" else 12
    for _ in range(dice.randint(0, 3)):
        point = dice.choice(POINTS)
        nth, after = dice.randint(1, latest), dice.random() < 0.5
        drawn.append(Fault(dice.choice(KINDS[point]), point, nth, after, seconds=dice.choice([0.1, 2.0, 20.0])))
    if dice.random() < 0.1:
        drawn.append(Fault("duplicate", "claim", nth=None))
    return FaultPlan(seed, tuple(drawn))


def doubts(dice: random.Random) -> tuple[Fault, ...]:
    """The answers to one to three records in a row get lost, while another worker may get the same message."""
    first, lost = dice.randint(1, 4), dice.randint(1, 3)
    drawn = [Fault("lose", "record", first + n, after=dice.random() < 0.5) for n in range(lost)]
    others = (
        Fault("expire", "record", first),
        Fault("expire", "invoke", dice.randint(1, 3), after=True),
        Fault("delay", "record", first, seconds=dice.choice([0.1, 2.0])),
        Fault("duplicate", "claim", nth=None),
    )
    return (*dice.sample(others, dice.randint(1, 2)), *drawn)


# --- code -------------------------------------------------------------------------------------------------------------


@cache
def saga_app(name: str = "main", release: int = 1) -> App:
    """Steps with effects and compensations, steps that fail, wait, ask and dispatch."""
    app = App(name)
    _saga(app)
    _failing(app)
    _waiting(app, release)
    return app


def _saga(app: App) -> None:
    @app.activity
    async def reserve(n: int, ctx: ActivityContext) -> str:
        token = f"{ctx.correlation_id}:{n}"
        ledger.done(token)
        await asyncio.sleep(0.1)
        return token

    @reserve.compensate
    async def free(token: str) -> None:
        ledger.undone(token)

    @app.activity
    def book(n: int, ctx: ActivityContext) -> str:
        ledger.done(f"{ctx.correlation_id}:{n}")
        return f"{ctx.correlation_id}:{n}"

    @book.compensate(retry=RetryPolicy(attempts=3, delay=1, jitter=False))
    async def unbook(token: str, ctx: ActivityContext) -> None:
        if ctx.attempt == 1:
            raise ConnectionError("not yet")
        ledger.undone(token)


def _failing(app: App) -> None:
    @app.activity
    async def refuse() -> None:
        raise ValueError("no")

    @app.activity(retry=RetryPolicy(attempts=2, delay=1, jitter=False))
    async def shaky(ctx: ActivityContext) -> int:
        if ctx.attempt == 1:
            raise ConnectionError("not yet")
        return 1

    @app.activity(retry=RetryPolicy(attempts=1, exhausted="park"))
    async def stuck() -> int:
        if random.random() < 0.5:  # as the seed of the plan says
            raise ConnectionError("somebody must look at this")
        return 1


def _waiting(app: App, release: int) -> None:
    @app.activity
    async def pass_on() -> int:
        if release > 1:
            await asyncio.sleep(0.2)
        return release

    @app.activity
    async def slow() -> int:
        await asyncio.sleep(1.5)
        return 1

    @app.activity
    async def ask(n: int, ctx: ActivityContext) -> str:
        shown = {"n": n}
        said = ctx.await_approval("May it go out?", details=shown)
        if not said.approved:
            return "denied"
        ledger.called(f"{ctx.step.id} {n}", {"asks": "May it go out?", "details": shown})
        return "sent"

    @app.activity
    async def family(n: int, ctx: ActivityContext) -> int:
        child = ctx.dispatch(app.activities["reserve"].step(n=n), app.activities["slow"])
        if release > 1:
            ctx.variables["release"] = release
        return len(ctx.wait_for(child, type=Any) and "12")


def steps(app: App, dice: random.Random, most: int = 3) -> list[Any]:
    """A few steps that the dice choose."""
    one = app.activities
    choice: list[Callable[[int], Any]] = [
        lambda n: one["reserve"].step(n=n),
        lambda n: one["reserve"].step(n=n),
        lambda n: one["book"].step(n=n),
        lambda n: one["pass_on"],
        lambda n: one["slow"],
        lambda n: one["shaky"],
        lambda n: one["refuse"],
        lambda n: one["stuck"],
        lambda n: one["ask"].step(n=n),
        lambda n: one["family"].step(n=n),
        lambda n: sleep(dice.choice([1, 3600])),
        lambda n: await_signal("go"),
        lambda n: branches(app, dice, n),
    ]
    return [dice.choice(choice)(n) for n in range(dice.randint(1, most))]


def branches(app: App, dice: random.Random, n: int) -> Any:
    """A scatter of two or three short branches."""
    one = app.activities
    choice: list[Callable[[int], Any]] = [
        lambda m: one["reserve"].step(n=m),
        lambda m: [one["reserve"].step(n=m), one["slow"]],
        lambda m: [one["reserve"].step(n=m), one["book"].step(n=m + 1)],
        lambda m: [one["reserve"].step(n=m), one["refuse"]],
        lambda m: [one["slow"], one["ask"].step(n=m)],
        lambda m: one["shaky"],
    ]
    made = [dice.choice(choice)(100 * (n + 1) + 10 * m) for m in range(dice.randint(2, 3))]
    return scatter(*made, policy=dice.choice(["all", "any", "settled", 1, 2]))


def acts(dice: random.Random, workflows: int, most: int = 4, *, beside: bool = False) -> tuple[Act, ...]:
    """What operators do to these workflows."""
    names = [f"workflow-{n + 1}" for n in range(workflows)]
    drawn = [Act.drawn(dice, names, STEERING) for _ in range(dice.randint(0, most))]
    if dice.random() < 0.2:
        drawn.append(Act(round(dice.uniform(1, 6), 3), "fork", dice.choice(names), name=dice.choice("12")))
    if dice.random() < 0.3:
        of = dice.choice(names)
        at = round(dice.uniform(0, 4), 3)
        drawn += [Act(at, "pause", of), Act(at + round(dice.uniform(0.0, 3), 3), "resume", of)]
    if beside:
        drawn = [Act(one.at, one.do, one.of, dice.random() < 0.5, one.name) for one in drawn]
    return tuple(drawn)


# --- kinds of worlds --------------------------------------------------------------------------------------------------


@cache
def tiny_app() -> App:
    """As little code as there can be: an App announces all that it has at each start of a worker."""
    app = App("tiny")
    _saga(app)

    @app.activity
    def refuse() -> None:
        raise ValueError("no")

    return app


def tiny(dice: random.Random) -> Scene:
    """One or two steps on one worker, so that faults strike every act; sometimes an operator besides."""
    app = tiny_app()
    one = app.activities
    doing = [dice.choice((one["reserve"].step(n=n), one["refuse"].step())) for n in range(dice.randint(1, 2))]
    drawn = [Act(round(dice.uniform(0, 0.4), 3), dice.choice(("cancel", "compensate")))] if dice.random() < 0.15 else []
    return Scene(app, doing, workers=1, acts=tuple(drawn), is_attended=True)


def saga(dice: random.Random) -> Scene:
    """Effects, one failure, compensations; no operator."""
    app = saga_app()
    one = app.activities
    doing = [one[dice.choice(["reserve", "book"])].step(n=n) for n in range(dice.randint(1, 3))]
    return Scene(app, [*doing, dice.choice([one["refuse"], one["pass_on"]])], is_attended=True)


def doubted(dice: random.Random) -> Scene:
    """A few steps with effects on two workers, which lose answers of the store to the ends that they record."""
    app = tiny_app()
    one = app.activities
    doing = [one["reserve"].step(n=n) for n in range(dice.randint(1, 3))]
    return Scene(app, [*doing, one["refuse"]] if dice.random() < 0.3 else doing, is_attended=True)


def losers(dice: random.Random) -> Scene:
    """A scatter, and whether what follows it fails."""
    app = saga_app()
    last = app.activities[dice.choice(["refuse", "pass_on"])]
    return Scene(app, [branches(app, dice, 0), last], is_attended=True)


def steered(dice: random.Random) -> Scene:
    """One workflow, and operators."""
    app = saga_app()
    return Scene(app, steps(app, dice), acts=acts(dice, 1), is_attended=True)


def crowd(dice: random.Random) -> Scene:
    """Several workflows at once, and operators."""
    app = saga_app()
    jobs = [Job(steps(app, dice, 2), at=round(dice.uniform(0, 2), 3)) for _ in range(dice.randint(1, 2))]
    return Scene(app, steps(app, dice, 2), jobs=jobs, acts=acts(dice, 1 + len(jobs)), is_attended=True)


def people(dice: random.Random) -> Scene:
    """Questions that look alike, and people who answer them."""
    app = saga_app()
    ask = app.activities["ask"]
    asking = [ask.step(n=n) for n in dice.sample(range(3), dice.randint(2, 3))]
    if dice.random() < 0.3:
        asking = [scatter(*[ask.step(n=dice.randint(1, 2)) for _ in range(2)], policy="settled")]
    verdicts = dice.choices(("approve", "deny"), k=dice.randint(2, 6))
    drawn = tuple(Act(round(dice.uniform(0.1, 2.0), 3), verdict) for verdict in verdicts)
    return Scene(app, asking, acts=drawn, is_attended=True)


def hasty(dice: random.Random) -> Scene:
    """Operators who cancel and pause right when a worker has asked how the workflow stands."""
    app = saga_app()
    one = app.activities
    doing = [one["reserve"].step(n=1), *[one["pass_on"]] * dice.randint(2, 4)]
    drawn = tuple(Act(round(dice.uniform(0, 0.8), 3), dice.choice(("cancel", "compensate", "pause"))) for _ in range(2))
    return Scene(app, doing, workers=1, acts=drawn, is_attended=True)


def two_apps(dice: random.Random) -> Scene:
    """Two Apps on one store, both with workflows that wait."""
    first, second = saga_app(), saga_app("beside")
    job = Job(steps(second, dice, 2), is_beside=True)
    drawn = acts(dice, 2, most=2, beside=True)
    return Scene(
        first, steps(first, dice, 2), workers=1, jobs=[job], acts=drawn, beside=second, is_attended=True, limit=900
    )


def deployed(dice: random.Random) -> Scene:
    """Workers are replaced by workers with new code while workflows run."""
    app, after = saga_app(), saga_app(release=2)
    deploys = [Deploy(round(dice.uniform(0, 4), 3), after)]
    return Scene(app, steps(app, dice), acts=acts(dice, 1, most=2), deploys=deploys, is_attended=True)


# --- agents -----------------------------------------------------------------------------------------------------------


@cache
def agent_app(release: int = 1) -> App:
    """An agent whose model makes one tool call after another, as its prompt says."""
    app = App("agents")
    _saga(app)
    _failing(app)
    _waiting(app, release)
    agent = Agent(FunctionModel(_next_call), name="worker")
    _tools(agent, app)
    app.activity(agent, retry=RetryPolicy(attempts=3, delay=0.5, jitter=False))
    return app


def _next_call(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """The prompt is a list of calls, in groups that are made at once."""
    answered = sum(isinstance(one, ModelResponse) for one in messages)
    ledger.unit(f"model:{answered + 1}")
    prompt = str(messages[0].parts[-1].content)  # type: ignore[union-attr]
    groups = prompt.split()
    if answered >= len(groups):
        return ModelResponse([TextPart("done")])
    calls = groups[answered].split("+")
    return ModelResponse(
        [ToolCallPart(call, {"n": answered * 10 + n}, f"{call}-{answered}-{n}") for n, call in enumerate(calls)]
    )


def _done(ctx: RunContext[None]) -> None:
    """The tool call is over but for its record."""
    asked = sum(isinstance(one, ModelResponse) for one in ctx.messages)
    ledger.unit(f"tool:{asked}:{ctx.tool_call_id}")


def _tools(agent: Agent[None, str], app: App) -> None:
    @agent.tool
    async def look(ctx: RunContext[None], n: int) -> int:
        _done(ctx)
        await asyncio.sleep(0.05)
        return n

    @agent.tool(requires_approval=True)
    async def pay(ctx: RunContext[None], n: int) -> int:
        shown = {"asks": "worker wants to call pay", "details": {"tool": "pay", "arguments": {"n": n}}}
        ledger.called(f"{ctx.tool_call_id}", shown)
        _done(ctx)
        return n

    @agent.tool
    async def rest(ctx: RunContext[None], n: int) -> int:
        ActivityContext.current().sleep(30)
        _done(ctx)
        return n

    @agent.tool
    async def hear(ctx: RunContext[None], n: int) -> int:
        ActivityContext.current().await_signal(f"go-{n}")
        _done(ctx)
        return n

    @agent.tool
    async def send(ctx: RunContext[None], n: int) -> int:
        here = ActivityContext.current()
        child = here.dispatch(app.activities["reserve"].step(n=n))
        here.wait_for(child)
        _done(ctx)
        return n

    @agent.tool
    async def spread(ctx: RunContext[None], n: int) -> int:
        one = app.activities
        parts = ActivityContext.current().scatter(one["reserve"].step(n=n), one["pass_on"], policy="settled")
        _done(ctx)
        return len(parts)


_CALLS = ("look", "look", "pay", "pay", "rest", "hear", "send", "spread")


def _prompt(dice: random.Random) -> str:
    groups = [dice.choices(_CALLS, k=dice.randint(1, 2)) for _ in range(dice.randint(1, 2))]
    return " ".join("+".join(group) for group in groups)


def agents(dice: random.Random) -> Scene:
    """An agent whose tools park, dispatch and scatter, and operators."""
    app = agent_app()
    ending = [app.activities["refuse"]] if dice.random() < 0.2 else []
    drawn = tuple(Act.drawn(dice, ["workflow-1"], STEERING) for _ in range(dice.randint(0, 2)))
    doing = [app.activities["worker"].step(prompt=_prompt(dice)), *ending]
    return Scene(app, doing, acts=drawn, is_attended=True)


def deployed_agents(dice: random.Random) -> Scene:
    """New code comes while an agent works."""
    deploys = [Deploy(round(dice.uniform(0, 3), 3), agent_app(2))]
    app = agent_app()
    doing = [app.activities["worker"].step(prompt=_prompt(dice))]
    return Scene(app, doing, deploys=deploys, is_attended=True)


KINDS_OF_WORLDS: dict[str, Callable[[random.Random], Scene]] = {
    "tiny": tiny,
    "saga": saga,
    "doubted": doubted,
    "losers": losers,
    "steered": steered,
    "crowd": crowd,
    "hasty": hasty,
    "people": people,
    "two_apps": two_apps,
    "deployed": deployed,
    "agents": agents,
    "deployed_agents": deployed_agents,
}
