"""The type of a workflow's result: what the last activity returns, or what the caller names."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from paigeant import OPEN, ActivityContext, Workflow
from paigeant.errors import InvalidArguments, WorkflowError

pytestmark = pytest.mark.anyio

SOON = 20


class Customer(BaseModel):
    name: str


class Supplier(BaseModel):
    name: str
    iban: str


async def test_a_result_is_read_as_the_type_that_the_caller_names(app, running):
    """It also overrides the type that the last activity returns."""

    @app.activity
    def find(name: str) -> dict[str, str]:
        return {"name": name}

    async with running(app):
        workflow: Workflow[Customer] = await app.dispatch(find.step(name="Ada"), result_type=Customer)
        assert await workflow.result(SOON) == Customer(name="Ada")
        again = app.workflow(workflow.correlation_id, result_type=Supplier | Customer)
        assert await again.result(SOON) == Customer(name="Ada")
        assert await app.workflow(workflow.correlation_id).result(SOON) == {"name": "Ada"}


async def test_a_result_is_typed_where_the_app_does_not_know_the_activity(app, make_app, running):
    """The last step runs in another service, so only the caller can name the type."""

    @app.activity
    def find(name: str) -> Customer:
        return Customer(name=name)

    client = make_app(app.settings.broker_url, app.settings.store_url)
    client.transport = app.transport
    client.store = app.store
    async with running(app):
        workflow = await client.dispatch("find", variables={"name": "Ada"}, result_type=Customer)
        assert await workflow.result(SOON) == Customer(name="Ada")


async def test_a_result_of_another_type_is_refused_with_the_name_of_the_workflow(app, running):
    """The error names the workflow, the part that is wrong, and the argument to correct."""

    @app.activity
    def find(name: str) -> dict[str, str]:
        return {"name": name}

    async with running(app):
        workflow = await app.dispatch(find.step(name="Ada"), result_type=Supplier)
        with pytest.raises(WorkflowError, match=f"workflow {workflow.correlation_id} completed.*iban: Field") as caught:
            await workflow.result(SOON)
        assert caught.value.correlation_id == workflow.correlation_id
        assert "correct the result_type" in caught.value.hint
        nothing = app.workflow(workflow.correlation_id, result_type=None)
        with pytest.raises(WorkflowError, match="does not fit None: Input should be null"):
            await nothing.result(SOON)


async def test_a_fork_has_the_result_type_of_its_workflow(app, running):
    """Its last step is the same."""

    @app.activity
    def find(name: str) -> dict[str, str]:
        return {"name": name}

    async with running(app):
        workflow = await app.dispatch(find.step(name="Ada"), result_type=Customer)
        await workflow.result(SOON)
        fork = await workflow.fork("find", arguments={"name": "Grace"})
        assert await fork.result(SOON) == Customer(name="Grace")


async def test_a_type_that_pydantic_cannot_validate_is_refused_before_the_dispatch(app):
    """Nothing is sent."""

    @app.activity
    def find() -> None: ...

    with pytest.raises(InvalidArguments, match="result_type: pydantic cannot validate"):
        app.dispatch(find, id="never", result_type=ActivityContext)
    with pytest.raises(InvalidArguments, match="result_type: pydantic cannot validate"):
        app.workflow("never", result_type=ActivityContext)
    assert await app.store.workflow("never") is None


async def test_the_worker_fills_what_is_left_open(app, running):
    """From a variable, the previous output and the context."""

    @app.activity
    def find() -> Customer:
        return Customer(name="Ada")

    @app.activity
    def greet(customer: Customer, ctx: ActivityContext, greeting: str, mark: str = "!") -> str:
        return f"{greeting}, {customer.name}{mark}"

    async with running(app):
        step = greet.step(customer=OPEN, ctx=OPEN, greeting=OPEN, mark="?")
        workflow = await app.dispatch(find, step, variables={"greeting": "Hello"})
        assert await workflow.result(SOON) == "Hello, Ada?"
