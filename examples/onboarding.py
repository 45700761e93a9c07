"""Onboarding a customer: plain functions, a database, and an agent that writes the letter.

    python examples/onboarding.py                     # dispatches one workflow and works it off in this process
    paigeant worker -A examples/onboarding.py         # or let workers do it, as many as you like

Accounts go into ``onboarding/accounts.db``, letters into ``onboarding/outbox/``; ONBOARDING_FOLDER names another
folder. The letter is written by a stand-in that needs no key. PAIGEANT_EXAMPLE_MODEL names a real model, for example
``anthropic:claude-sonnet-4-5``.
"""

import asyncio
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from email.message import EmailMessage
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from paigeant import ActivityContext, App, Depends, RetryPolicy, Worker

app = App("onboarding")


class Tier(StrEnum):
    FREE = "free"
    PREMIUM = "premium"


MONTHLY = {Tier.FREE: Decimal("0.00"), Tier.PREMIUM: Decimal("30.00")}


class Customer(BaseModel):
    email: str
    name: str


class Account(BaseModel):
    number: int
    customer: Customer
    opened_on: date


class PaymentMethod(BaseModel):
    account: int
    customer: Customer
    first_charge: Decimal
    charged_monthly: Decimal


class Letter(BaseModel):
    subject: str
    body: str


# --- where things are kept -------------------------------------------------------------------------------------------


def folder() -> Path:
    path = Path(os.environ.get("ONBOARDING_FOLDER", "onboarding"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def accounts() -> Iterator[sqlite3.Connection]:
    """One connection for each step that asks for it; what the step wrote is committed when it ends well."""
    with closing(sqlite3.connect(folder() / "accounts.db", check_same_thread=False, timeout=30)) as connection:
        connection.executescript(
            """
            CREATE TABLE IF NOT EXISTS account (
                number INTEGER PRIMARY KEY, key TEXT UNIQUE, email TEXT, name TEXT, tier TEXT, opened_on TEXT
            );
            CREATE TABLE IF NOT EXISTS payment (
                key TEXT PRIMARY KEY, account INTEGER REFERENCES account, token TEXT, first_charge TEXT, monthly TEXT
            );
            """
        )
        with connection:
            yield connection


# --- the steps -------------------------------------------------------------------------------------------------------


@app.activity(name="validate-customer-data")
async def validate_customer_data(customer_email: str, customer_name: str = "") -> Customer:
    """Refuse what cannot be an address; the workflow then ends as failed, with this error."""
    email = customer_email.strip().lower()
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[a-z]{2,}", email):
        raise ValueError(f"not an e-mail address: {customer_email!r}")
    return Customer(email=email, name=customer_name or email.partition("@")[0].replace(".", " ").title())


@app.activity(name="create-customer-account", retry=RetryPolicy(attempts=5, delay=0.5), timeout=30)
def create_customer_account(
    customer: Customer, subscription_tier: Tier, ctx: ActivityContext, db: sqlite3.Connection = Depends(accounts)
) -> Account:
    """Open the account. A second delivery of this step has the same key and finds what the first one wrote."""
    today = datetime.now(UTC).date()
    db.execute(
        "INSERT INTO account (key, email, name, tier, opened_on) VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
        (ctx.idempotency_key, customer.email, customer.name, subscription_tier, today.isoformat()),
    )
    found = db.execute("SELECT number, opened_on FROM account WHERE key = ?", (ctx.idempotency_key,)).fetchone()
    ctx.logger.info("account is open", number=found[0])
    return Account(number=found[0], customer=customer, opened_on=found[1])


@create_customer_account.compensate
def delete_customer_account(account: Account) -> None:
    with closing(sqlite3.connect(folder() / "accounts.db")) as db, db:
        db.execute("DELETE FROM account WHERE number = ?", (account.number,))


@app.activity(name="setup-payment-method", retry=RetryPolicy(attempts=3, delay=0.5))
def setup_payment_method(
    account: Account,
    subscription_tier: Tier,
    ctx: ActivityContext,
    payment_token: str = "",
    db: sqlite3.Connection = Depends(accounts),
) -> PaymentMethod:
    """Note what will be charged: the rest of this month now, and each month from then on."""
    monthly = MONTHLY[subscription_tier]
    if monthly and not payment_token:
        raise ValueError(f"the {subscription_tier} tier needs a payment_token")
    days = (
        date(account.opened_on.year + account.opened_on.month // 12, account.opened_on.month % 12 + 1, 1)
        - account.opened_on.replace(day=1)
    ).days
    left = days - account.opened_on.day + 1
    first = (monthly * left / days).quantize(Decimal("0.01"))
    db.execute(
        "INSERT INTO payment VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
        (ctx.idempotency_key, account.number, payment_token, str(first), str(monthly)),
    )
    return PaymentMethod(account=account.number, customer=account.customer, first_charge=first, charged_monthly=monthly)


def stand_in(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Writes the letter without a model, from what an agent step is told about the steps before it."""
    known = "\n".join(message.instructions or "" for message in messages if message.kind == "request")
    name = re.search(r'"name": ?"([^"]+)"', known)
    number = re.search(r'"account": ?(\d+)', known)
    letter = Letter(
        subject="Welcome",
        body=f"Dear {name[1] if name else 'customer'},\n\nyour account {number[1] if number else ''} is open.\n",
    )
    return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, letter.model_dump())])


write_welcome_letter = app.activity(
    Agent(
        os.environ.get("PAIGEANT_EXAMPLE_MODEL") or FunctionModel(stand_in),
        name="write-welcome-letter",
        output_type=Letter,
        system_prompt="You write short, friendly letters to new customers. Never invent facts.",
        defer_model_check=True,
    ),
    retry=RetryPolicy(attempts=3),
    timeout=120,
)


@app.activity(name="send-welcome-email")
def send_welcome_email(letter: Letter, ctx: ActivityContext) -> Path:
    """Put the letter into the outbox. Its name is the step's key, so that a repetition replaces it with itself."""
    message = EmailMessage()
    message["To"] = ctx.output("validate-customer-data", Customer).email
    message["From"] = "hello@example.com"
    message["Subject"] = letter.subject
    message["Message-ID"] = f"<{ctx.idempotency_key.replace(':', '.')}@example.com>"
    message.set_content(letter.body)
    outbox = folder() / "outbox"
    outbox.mkdir(exist_ok=True)
    path = outbox / f"{ctx.idempotency_key.replace(':', '-')}.eml"
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_bytes(bytes(message))
    return draft.replace(path)


ITINERARY = (
    validate_customer_data,
    create_customer_account,
    setup_payment_method,
    write_welcome_letter.step(prompt="Welcome the new customer and name the account."),
    send_welcome_email,
)


async def main(email: str) -> None:
    """Dispatch one workflow and work it off here."""
    workflow = await app.dispatch(
        *ITINERARY,
        variables={"customer_email": email, "subscription_tier": Tier.PREMIUM, "payment_token": "tok_example"},
    )
    print("workflow", workflow)
    await Worker(app, burst=True).run()
    path = await workflow.result(timeout=5)
    print(path.read_text())
    await app.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ada.lovelace@example.com"))
