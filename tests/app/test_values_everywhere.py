"""The proof: what a step is given is what was produced, type included, on every way; or its producer is refused.

Types and values are drawn at random; real workflows of a real worker carry them, in memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from kinds import same, typed_values
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from paigeant import ActivityContext, App, RetryPolicy, Terminate, Worker, Workflow
from paigeant.errors import InvalidArguments, NotSerializable, WorkflowFailed

SOON = 30

OFTEN = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
VERY_OFTEN = settings(OFTEN, max_examples=2000, derandomize=False)


class Everywhere:
    """One App and one worker for all examples; each example declares the activities anew."""

    def __init__(self, app: App) -> None:
        self.app = app
        logging.getLogger("paigeant").setLevel(logging.CRITICAL)
        self.activity("fail", _fail)
        self.worker = Worker(app)
        self.runner = asyncio.Runner()
        self.serving = self.runner.run(self._serve())
        self.ended: Counter[str] = Counter()

    async def _serve(self) -> asyncio.Task[None]:
        ready = asyncio.Event()
        serving = asyncio.create_task(self.worker.run(ready.set))
        await ready.wait()
        return serving

    def close(self) -> None:
        async def stop() -> None:
            self.worker.stop()
            await self.serving

        self.runner.run(stop())
        self.runner.close()

    def activity(self, name: str, function: Callable[..., Any]) -> Any:
        """An activity of this name, in the place of the one before."""
        self.app.activities.pop(name, None)
        made = self.app.activity(name=name, queue="values", retry=RetryPolicy(attempts=1))(function)
        if hasattr(self, "worker"):
            self.worker.activities[name] = made
        return made

    def check(self, way: Callable[[Example], Awaitable[str]], annotation: Any, value: Any) -> None:
        """Send one value this way, and count how that ended: delivered, or refused."""
        ended = self.runner.run(way(Example(self, annotation, value)))
        assert ended in ("delivered", "refused")
        self.ended[ended] += 1


async def _fail() -> None:
    raise ConnectionError("down")


@pytest.fixture
def everywhere(make_app: Callable[..., App]) -> Iterator[Everywhere]:
    made = Everywhere(make_app("memory://"))
    yield made
    made.close()
    assert made.ended["delivered"] > 2 * made.ended["refused"], "what is refused proves little"


class Example:
    """A type and a value of it, and what was seen in the place of the value."""

    def __init__(self, everywhere: Everywhere, annotation: Any, value: Any) -> None:
        self.app, self.annotation, self.value = everywhere.app, annotation, value
        self.seen: dict[str, Any] = {}
        self.is_down = False
        self._activity = everywhere.activity

    def producer(self, function: Callable[[], Any]) -> Any:
        """An activity that says that it returns the type."""
        function.__annotations__["return"] = self.annotation
        return self._activity(function.__name__, function)

    def plain(self, function: Callable[..., Any]) -> Any:
        """An activity that says nothing of what it returns."""
        return self._activity(function.__name__, function)

    def taker(self, several: bool = False) -> Any:
        """An activity that takes the type, or a list of it, and returns it, or is down."""
        annotation = list[self.annotation] if several else self.annotation

        async def take(given, ctx: ActivityContext):
            self.seen[f"parameter of {ctx.correlation_id}, epoch {ctx.message.epoch}"] = given
            if self.is_down:
                raise ConnectionError("down")
            return given

        take.__annotations__.update({"given": annotation, "return": annotation})
        return self._activity("take", take)

    def last_taker(self) -> Any:
        """An activity that only takes the type."""

        async def take(given):
            self.seen["parameter"] = given

        take.__annotations__["given"] = self.annotation
        return self._activity("take", take)

    def valid(self) -> Any:
        """The value as pydantic makes it of the one that is given."""
        return TypeAdapter(self.annotation).validate_python(self.value)

    def json_fits(self) -> bool:
        """Whether the type accepts the JSON of the value: a text for a Decimal, for example."""
        try:
            TypeAdapter(self.annotation).validate_json(to_json(self.value))
        except ValidationError:
            return False
        return True

    def delivered(self, expected: Any) -> str:
        """It was the same wherever it was seen."""
        changed = {where: one for where, one in self.seen.items() if not same(one, expected)}
        assert not changed, f"not {expected!r}"
        return "delivered"


async def _refused(workflow: Workflow, what: str) -> str | None:
    """Whether the first step failed, and if so, by an error that names the part."""
    await asyncio.wait([asyncio.ensure_future(workflow.result(SOON))])
    first = (await workflow.record()).steps[0]
    if first.status == "completed":
        return None
    assert (first.status, first.error.type) == ("failed", "NotSerializable")
    assert first.error.message.startswith(what)
    return "refused"


async def _output(example: Example) -> str:
    app, seen = example.app, example.seen

    @example.producer
    async def produce():
        return example.value

    @example.producer
    async def undoable():
        return example.value

    async def undo(output):
        seen["compensation"] = output

    async def look(ctx: ActivityContext):
        seen["ctx.output()"] = ctx.output("produce", example.annotation)

    undo.__annotations__["output"] = example.annotation
    undoable.compensate(undo)
    take, look = example.taker(), example.plain(look)
    example.is_down = True
    failed = await app.dispatch(produce, take)
    if await _refused(failed, "the output of 'produce'"):
        return "refused"
    example.is_down = False
    fork = await failed.fork("take")
    await failed.retry()
    undone, looked = await app.dispatch(undoable, "fail"), await app.dispatch(produce, look)
    with pytest.raises(WorkflowFailed, match="down; compensated"):
        await undone.result(SOON)
    await looked.result(SOON)
    seen["result()"] = await failed.result(SOON)
    seen["app.workflow().result()"] = await app.workflow(str(failed)).result(SOON)
    seen["result() of the fork"] = await fork.result(SOON)
    assert len(seen) == 8, "the first try, the redrive, the fork, and five others"
    return example.delivered(example.value)


async def _yielded(example: Example) -> str:
    async def stream():
        yield example.value

    stream.__annotations__["return"] = AsyncIterator[example.annotation]
    workflow = await example.app.dispatch(example.plain(stream), example.taker(several=True))
    if await _refused(workflow, "yielded value 0"):
        return "refused"
    example.seen["result()"] = await workflow.result(SOON)
    return example.delivered([example.value])


async def _ending(example: Example) -> str:
    @example.producer
    async def end():
        raise Terminate(example.value)

    try:
        example.valid()
    except ValidationError:
        return "refused"  # it is no value of that type, and a workflow may end with one
    workflow = await example.app.dispatch(end)
    if await _refused(workflow, "the output of 'end'"):
        return "refused"
    example.seen["result()"] = await workflow.result(SOON)
    return example.delivered(example.value)


async def _argument(example: Example) -> str:
    take = example.last_taker()
    return await _taken(example, lambda: example.app.dispatch(take.step(given=example.value)))


async def _variable(example: Example) -> str:
    take = example.last_taker()
    return await _taken(example, lambda: example.app.dispatch(take, variables={"given": example.value}))


async def _taken(example: Example, dispatch: Callable[[], Workflow]) -> str:
    """What is dispatched takes the value, or is refused at once by an error that names it."""
    try:
        workflow = dispatch()
    except (NotSerializable, InvalidArguments) as error:
        return "refused" if "given" in str(error) else f"refused without a path: {error}"
    await workflow.result(SOON)
    return example.delivered(example.valid())


async def _set_variable(example: Example) -> str:
    async def set_it(ctx: ActivityContext):
        ctx.variables["given"] = example.value

    workflow = await example.app.dispatch(example.plain(set_it), example.last_taker())
    if await _refused(workflow, "variables['given']"):
        return "refused"
    try:
        expected = example.valid()
    except ValidationError:  # it is no value of that type: the step that takes it says so, unless its JSON is one
        if example.json_fits():
            await workflow.result(SOON)
            return "delivered"
        with pytest.raises(WorkflowFailed, match="parameter 'given' \\(variable\\)"):
            await workflow.result(SOON)
        return "refused"
    await workflow.result(SOON)
    return example.delivered(expected)


@OFTEN
@given(drawn=typed_values())
def test_an_output_is_the_same_everywhere_or_its_step_fails(everywhere, drawn):
    """For the next step, a redrive, a fork, ``ctx.output()``, a compensation and both kinds of handles."""
    everywhere.check(_output, *drawn)


@OFTEN
@given(drawn=typed_values())
def test_an_argument_is_the_same_in_its_step_or_is_refused(everywhere, drawn):
    """As pydantic makes it of what was given."""
    everywhere.check(_argument, *drawn)


@OFTEN
@given(drawn=typed_values())
def test_a_variable_is_the_same_in_its_step_or_is_refused(everywhere, drawn):
    """At dispatch."""
    everywhere.check(_variable, *drawn)


@OFTEN
@given(drawn=typed_values())
def test_a_variable_that_a_step_sets_is_the_same_in_the_next_or_its_step_fails(everywhere, drawn):
    """Before it completes."""
    everywhere.check(_set_variable, *drawn)


@OFTEN
@given(drawn=typed_values())
def test_a_yielded_value_is_the_same_in_the_list_or_its_step_fails(everywhere, drawn):
    """For the next step, and for who waits for the workflow."""
    everywhere.check(_yielded, *drawn)


@OFTEN
@given(drawn=typed_values())
def test_what_ends_a_workflow_is_the_same_or_its_step_fails(everywhere, drawn):
    """If it is what the step declares."""
    everywhere.check(_ending, *drawn)


@pytest.mark.endurance
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("way", [_output, _argument, _variable, _set_variable, _yielded, _ending])
@VERY_OFTEN
@given(drawn=typed_values())
def test_the_same_for_many_more_values(everywhere, way, drawn):
    """Other ones each time."""
    everywhere.check(way, *drawn)
