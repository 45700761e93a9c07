"""Calls that type checkers must report. ``test_errors.py`` has mypy and pyright read this file; nothing runs it.

A line that ends in ``# wrong`` must be reported by both, every other line by neither.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypedDict, Unpack

from pydantic import BaseModel
from pydantic_ai import Agent

from paigeant import OPEN, ActivityContext, ActivitySpec, App, Depends, Workflow
from paigeant.testing import run

app = App("typing")


class Order(BaseModel):
    id: str


class Mailer:
    pass


class Extra(TypedDict):
    subject: str


def mailer() -> Mailer:
    return Mailer()


@app.activity
async def find(email: str) -> Order:
    return Order(id=email)


@app.activity(timeout=60)
def send(ctx: ActivityContext, order: Order, template: str, outbox: Mailer = Depends(mailer)) -> str:
    return f"{order.id} {template}"


@app.activity
def book(room: str, nights: int, customer: str, guests: int = 1) -> int:
    return nights


@app.activity
async def words(*, text: str) -> AsyncIterator[str]:
    yield text


@app.activity
def post(text: str, **extra: Unpack[Extra]) -> str:
    return text + extra["subject"]


@app.activity
def tell(text: str, ctx: ActivityContext) -> str:
    return text


@app.activity
def close() -> None: ...


class Rooms:
    @app.activity
    @staticmethod
    def free(day: str) -> list[str]:
        return [day]

    def reserve(self, room: str) -> str:
        return room


reserve = app.activity(Rooms().reserve)


def wrong_names() -> None:
    find.step(mail="a")  # wrong
    send.step(order=Order(id="1"), templat="welcome")  # wrong
    send.step(templat="welcome")  # wrong
    book.step(room="A", nights=2, customer="Ada", hours=3)  # wrong
    words.step(txt="a")  # wrong
    post.step(text="a", subject="b", object="c")  # wrong
    close.step(now=True)  # wrong
    Rooms.free.step(date="Monday")  # wrong
    reserve.step(rom="A")  # wrong


def wrong_types() -> None:
    find.step(email=3)  # wrong
    find.step(email=None)  # wrong
    send.step(order="1", template="welcome")  # wrong
    send.step(template=b"welcome")  # wrong
    book.step(room="A", nights="two", customer="Ada")  # wrong
    book.step(room=OPEN, nights="two", customer="Ada")  # wrong
    book.step(nights="two", customer="Ada")  # wrong
    book.step(room="A", nights=2, customer="Ada", guests="two")  # wrong
    words.step(text=["a"])  # wrong
    post.step(text="a", subject=1)  # wrong
    Rooms.free.step(day=1)  # wrong
    reserve.step(room=1)  # wrong


def missing_arguments() -> None:
    book.step(room="A", nights=2)  # wrong
    book.step(room="A")  # wrong
    book.step(nights=2)  # wrong
    send.step(order=Order(id="1"))  # wrong
    post.step(text="a")  # wrong


def positional_arguments() -> None:
    find.step("a")  # wrong
    send.step(Order(id="1"), "welcome")  # wrong
    send.step("welcome")  # wrong
    book.step("A", nights=2, customer="Ada")  # wrong
    tell.step("a")  # wrong


def wrong_options() -> None:
    find.step(email="a").options(timout=3)  # wrong
    find.step(email="a").options(priority="high")  # wrong
    find.step(email="a").options(when=3)  # wrong
    app.activity(tim_out=3)  # wrong
    app.activity(timeout="3")  # wrong
    app.dispatch(find, variable={"a": 1})  # wrong
    app.dispatch(find, deadline="soon")  # wrong
    app.dispatch(find, "elsewhere", result_type=Order, variable={"a": 1})  # wrong


def wrong_steps(one: list[int]) -> None:
    app.dispatch(3)  # wrong
    app.dispatch(find, None)  # wrong
    app.dispatch(close(), find)  # wrong
    app.dispatch(one)  # wrong
    app.dispatch(mailer)  # wrong
    run(app, 3)  # wrong
    run(app, find, variable={"a": 1})  # wrong


async def wrong_results() -> None:
    one: int = await app.dispatch(find.step(email="a")).result()  # wrong
    two: str = await app.dispatch(find, book).result()  # wrong
    three: str = app.dispatch(find, words).result_sync()  # wrong
    four: Workflow[str] = app.dispatch(find, book.step(room="A", nights=2, customer="Ada"))  # wrong
    five: str = await app.dispatch(find, "elsewhere", result_type=Order).result()  # wrong
    six: str = await app.workflow("id", result_type=Order).result()  # wrong
    seven: ActivitySpec[str] = find.step(email="a")  # wrong
    eight: str = await (await app.dispatch(find).fork("find")).result()  # wrong
    nine: str = run(app, find.step(email="a")).result()  # wrong
    print((await app.dispatch(find).result()).name)  # wrong
    print(one, two, three, four, five, six, seven, eight, nine)


async def calls_stay_checked() -> None:
    book("A", "two", "Ada")  # wrong
    book("A", 2)  # wrong
    find(mail="a")  # wrong
    print((await find("a")).name)  # wrong
    number: int = send.step(template="a")  # wrong
    print(number)


writer = app.activity(Agent("test", name="writer"))
clerk = app.activity(Agent("test", deps_type=Order, output_type=Order), name="clerk")
guide = app.activity(Agent("test", deps_type=Order, name="guide"), deps=lambda: Order(id="1"))


async def agents() -> None:
    writer.step(prompt=3)  # wrong
    writer.step("Write.")  # wrong
    writer.step(promt="Write.")  # wrong
    clerk.step(prompt="Order.", deps="acme")  # wrong
    guide.step(prompt="Judge.", deps=Order(id="1"))  # wrong
    app.activity(Agent("test"), nam="writer")  # wrong
    order: str = await app.dispatch(clerk.step(prompt="Order.")).result()  # wrong
    print(order)
