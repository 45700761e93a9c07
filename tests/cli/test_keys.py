"""Keys and trust policies from the command line."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Paigeant = Callable[..., Result]

SHOP = """
from paigeant import App

app = App("shop")


@app.activity(scopes=["orders"])
async def check(order: str) -> str:
    return order


@app.activity
async def ship(order: str) -> str:
    return f"shipped {order}"
"""


@pytest.fixture
def paigeant(in_process: Callable[[str], Paigeant], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paigeant:
    for name in ("PAIGEANT_SIGNING", "PAIGEANT_SIGNING_KEY", "PAIGEANT_TRUST", "PAIGEANT_APP"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "shop_keys.py").write_text(SHOP)
    return in_process(f"sqlite:///{tmp_path / 'paigeant.db'}")


def said(paigeant: Paigeant, *arguments: str, code: int = 0) -> object:
    return json.loads(paigeant(*arguments, "--json", code=code).stdout)


def test_init_makes_key_and_policy_for_the_app(paigeant, tmp_path):
    """The policy allows what the code has, and the output names the settings."""
    done = paigeant("keys", "init", "shop", "-A", "shop_keys", "--audience", "orders.prod")
    assert "PAIGEANT_SIGNING_KEY=shop.key" in done.stdout
    assert "PAIGEANT_TRUST=trust.toml" in done.stdout
    assert stat.S_IMODE((tmp_path / "shop.key").stat().st_mode) == 0o600
    assert '"d"' not in done.stdout
    assert (json.loads((tmp_path / "shop.key").read_text())["d"]) not in done.stdout
    checked = said(paigeant, "trust", "check", "-A", "shop_keys")
    assert (checked["audience"], checked["rules"], checked["keys"], checked["remarks"]) == ("orders.prod", 1, 1, [])
    asked = ("--run", "check", "--run", "ship", "--insert", "ship", "--dispatch", "anything", "--scope", "orders")
    answers = said(paigeant, "trust", "explain", "--key", "shop", *asked)
    assert [one["allowed"] for one in answers] == [True] * 5
    refused = said(paigeant, "trust", "explain", "--key", "shop", "--run", "pay", "--order", "redrive", code=1)
    assert [one["allowed"] for one in refused] == [False, False]


def test_a_second_key_gets_a_rule_in_the_same_policy(paigeant, tmp_path):
    paigeant("keys", "init", "shop", "-A", "shop_keys")
    done = said(paigeant, "keys", "init", "ops")
    assert done["add"] is None
    assert '[[key]]\nname = "ops"' in (tmp_path / "trust.toml").read_text()
    assert [one["name"] for one in said(paigeant, "keys", "list")] == ["ops", "shop"]
    assert "'ops' allows nothing" in paigeant("trust", "check").stderr


def test_a_key_is_not_overwritten(paigeant, tmp_path):
    paigeant("keys", "init", "shop")
    before = (tmp_path / "shop.key").read_text()
    assert "paigeant keys rotate shop" in paigeant("keys", "init", "shop", code=78).stderr
    assert (tmp_path / "shop.key").read_text() == before


def test_rotate_and_revoke(paigeant):
    first = said(paigeant, "keys", "init", "shop")["kid"]
    second = said(paigeant, "keys", "rotate", "shop")
    assert second["state"] == "next"
    done = said(paigeant, "keys", "rotate", "shop", "--overlap", "15m")
    assert (done["kid"], done["retired"]) == (second["kid"], [first])
    paigeant("keys", "revoke", first)
    assert "has no key now" in paigeant("keys", "revoke", second["kid"]).stderr
    assert {one["state"] for one in said(paigeant, "keys", "list")} == {"revoked"}
    assert "there is no key" in paigeant("keys", "revoke", "shop-0", code=78).stderr


def test_the_jwk_set_can_be_the_source_of_keys(paigeant, tmp_path):
    """What jwks prints is a file that a policy can name."""
    paigeant("keys", "init", "shop")
    (tmp_path / "set.json").write_text(paigeant("keys", "jwks").stdout)
    policy = tmp_path / "trust.toml"
    policy.write_text(policy.read_text().replace('keys = "keys"', 'keys = "set.json"'))
    assert said(paigeant, "trust", "check")["keys"] == 1
    assert "only a folder of keys" in paigeant("keys", "rotate", "shop", code=78).stderr


def test_a_rule_about_no_key_fails_the_check(paigeant, tmp_path):
    paigeant("keys", "init", "shop")
    with (tmp_path / "trust.toml").open("a") as policy:
        policy.write('[[key]]\nname = "shopp"\nrun = ["x"]\n')
    assert "did you mean 'shop'" in paigeant("trust", "check", code=78).stderr


def test_no_question_is_wrong_usage(paigeant):
    assert "there is no question" in paigeant("trust", "explain", "--key", "shop", code=2).stderr


def test_config_masks_a_key_and_shows_a_path(paigeant, tmp_path, monkeypatch):
    paigeant("keys", "init", "shop")
    key = (tmp_path / "shop.key").read_text()
    monkeypatch.setenv("PAIGEANT_SIGNING_KEY", key)
    assert json.loads(key)["d"] not in paigeant("config").output
    monkeypatch.setenv("PAIGEANT_SIGNING_KEY", "shop.key")
    rows = {one["setting"]: one["value"] for one in said(paigeant, "config")}
    assert (rows["signing"], rows["signing_key"]) == ("off", "shop.key")


def test_doctor_names_mode_key_and_policy(paigeant, monkeypatch):
    def signing() -> dict[str, str]:
        monkeypatch.delitem(sys.modules, "shop_keys", raising=False)  # an App reads its settings once
        checks = said(paigeant, "doctor", "-A", "shop_keys")["checks"]
        return next(one for one in checks if one["name"] == "signing")

    assert signing()["found"].startswith("off:")
    kid = said(paigeant, "keys", "init", "shop", "-A", "shop_keys")["kid"]
    monkeypatch.setenv("PAIGEANT_SIGNING_KEY", "shop.key")
    monkeypatch.setenv("PAIGEANT_TRUST", "trust.toml")
    monkeypatch.setenv("PAIGEANT_SIGNING", "accept")
    assert signing()["verdict"] == "warn"
    monkeypatch.setenv("PAIGEANT_SIGNING", "required")
    found = signing()
    digest = said(paigeant, "trust", "check")["digest"]
    assert found["verdict"] == "ok"
    assert f"key {kid} of shop is current; policy {digest[:12]}" in found["found"]


def test_a_worker_runs_what_is_signed_and_says_so(terminal):
    """From no key to a signed result: settings as the command names them."""
    terminal.write(shop_keys=SHOP.replace('(scopes=["orders"])', ""))
    made = terminal.json("keys", "init", "shop", "-A", "shop_keys", "--json")
    environment = made["settings"] | {"PAIGEANT_SIGNING": "required"}
    dispatch = ("dispatch", "-A", "shop_keys", "ship", "--input", '{"order": "1"}')
    signed = terminal.run(*dispatch, **environment).stdout.strip()
    unsigned = terminal.run(*dispatch).stdout.strip()
    log = terminal.run("worker", "-A", "shop_keys", "--burst", **environment).stderr
    assert made["kid"] in log
    assert '"signing":"required"' in log or "required" in log
    assert terminal.run("result", signed, "-A", "shop_keys").stdout.strip() == '"shipped 1"'
    letters = terminal.json("dlq", "list", "-A", "shop_keys", "--json")
    assert [one["code"] for one in letters] == ["unsigned"]
    assert terminal.status(unsigned) == "running"


def test_a_team_signs_with_one_secret(terminal):
    made = terminal.json("keys", "init", "team", "--shared", "--json")
    terminal.write(shop_keys=SHOP.replace('(scopes=["orders"])', ""))
    dispatch = ("dispatch", "-A", "shop_keys", "ship", "--input", '{"order": "1"}')
    signed = terminal.run(*dispatch, **made["settings"]).stdout.strip()
    terminal.run("worker", "-A", "shop_keys", "--burst", **made["settings"])
    assert terminal.run("result", signed, "-A", "shop_keys").stdout.strip() == '"shipped 1"'
