"""examples/onboarding.py does what its first lines say."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from examples_run import EXAMPLES, paigeant, python

ONBOARDING = EXAMPLES / "onboarding.py"


def accounts(folder: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(folder / "onboarding" / "accounts.db") as db:
        found = db.execute("SELECT email, tier FROM account").fetchall()
    db.close()
    return found


def test_it_runs_as_a_program(tmp_path: Path) -> None:
    """One customer is onboarded: an account, a payment method, a letter with the customer's name in the outbox."""
    ran = python(ONBOARDING, "Grace.Hopper@example.com", cwd=tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert accounts(tmp_path) == [("grace.hopper@example.com", "premium")]
    (letter,) = (tmp_path / "onboarding" / "outbox").glob("*.eml")
    assert "To: grace.hopper@example.com" in letter.read_text()
    assert "Dear Grace Hopper" in letter.read_text()


def test_bad_data_ends_the_workflow(tmp_path: Path) -> None:
    """What is no address fails the first step; nothing after it happens."""
    ran = python(ONBOARDING, "nobody", cwd=tmp_path)

    assert ran.returncode != 0
    assert "not an e-mail address: 'nobody'" in ran.stderr
    assert not (tmp_path / "onboarding").exists()


def test_it_runs_with_a_worker_of_the_command_line(tmp_path: Path) -> None:
    """The README's commands: dispatch first, then a worker, then the history."""
    given = json.dumps({"customer_email": "alan@example.com", "subscription_tier": "free"})
    steps = ("validate-customer-data", "create-customer-account", "setup-payment-method")
    sent = paigeant("dispatch", "-A", str(ONBOARDING), *steps, "--variables", given, cwd=tmp_path)
    assert sent.returncode == 0, sent.stderr
    worked = paigeant("worker", "-A", str(ONBOARDING), "--burst", cwd=tmp_path)
    assert worked.returncode == 0, worked.stderr
    (workflow,) = json.loads(paigeant("workflows", "--json", cwd=tmp_path).stdout)

    assert workflow["status"] == "completed"
    assert accounts(tmp_path) == [("alan@example.com", "free")]


def test_a_repeated_step_opens_no_second_account(tmp_path: Path) -> None:
    """The effect of a step that runs twice with one idempotency key is there once."""
    script = tmp_path / "twice.py"
    script.write_text(
        f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
from types import SimpleNamespace
import logging
from contextlib import contextmanager
from onboarding import Customer, Tier, accounts, create_customer_account
ctx = SimpleNamespace(idempotency_key="w:2:0", logger=SimpleNamespace(info=lambda *a, **k: None))
numbers = []
for _ in range(2):
    with contextmanager(accounts)() as db:
        numbers.append(create_customer_account(Customer(email="a@b.cd", name="A"), Tier.FREE, ctx, db).number)
assert numbers == [1, 1], numbers
"""
    )
    ran = python(script, cwd=tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert len(accounts(tmp_path)) == 1
