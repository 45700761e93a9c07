"""What a policy allows and why, and the mistakes in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from signing import Deployment

from paigeant.errors import ConfigurationError
from paigeant.records.trust import Right
from paigeant.security.inspecting import Trust


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    made = Deployment(tmp_path)
    made.add("checkout", {"dispatch": ["order"], "run": ["check", "charge-*"]})
    made.add("thief", {"run": ["check"]}, state="revoked")
    return made


def read(deployment: Deployment) -> Trust:
    return Trust.read(Path(deployment.trust))


@pytest.mark.parametrize(
    ("key", "right", "what", "allowed", "why"),
    [
        ("checkout", Right.RUN, "check", True, "'check' in run"),
        ("checkout", Right.RUN, "charge-card", True, "'charge-*' in run"),
        ("checkout", Right.RUN, "paigeant.sleep", True, "every [[key]]"),
        ("checkout", Right.RUN, "refund", False, "has run = ['check', 'charge-*']"),
        ("checkout", Right.ORDER, "redrive", False, "has order = []"),
        ("checkout-1", Right.DISPATCH, "order", True, "'order' in dispatch"),
        ("thief-1", Right.RUN, "check", False, "was revoked"),
        ("chekout", Right.RUN, "check", False, "checkout"),
    ],
)
def test_an_answer_names_its_rule(deployment, key, right, what, allowed, why):
    answer = read(deployment).explain(key, right, what)
    assert answer.is_allowed is allowed
    assert why in answer.why


def test_a_rule_about_no_key_is_a_fault(deployment):
    deployment.rules["nobody"] = {"run": ["check"]}
    deployment.write()
    assert ["'nobody' is about a key that nobody has" in one.text for one in read(deployment).remarks() if one.is_fault]


def test_a_good_policy_has_no_remarks(tmp_path):
    deployment = Deployment(tmp_path)
    deployment.add("checkout")
    assert [*read(deployment).remarks({"check"})] == []


def test_mistakes_are_named(deployment):
    deployment.extra = '[activity.refnd]\nscopes = ["refunds"]'
    deployment.add("lonely", {})
    del deployment.rules["lonely"]
    deployment.write()
    text = " / ".join(one.text for one in read(deployment).remarks({"check", "refund"}))
    assert "all keys of 'thief' are retired or revoked" in text
    assert "no [[key]] has the name 'lonely'" in text
    assert "(run) names the activity 'charge-*'" in text
    assert "[activity.refnd] names the activity 'refnd'" in text
    assert "refund" in text


def test_unreadable_keys_are_a_mistake_of_the_configuration(deployment):
    (deployment.folder / "keys" / "bad.jwk").write_text("{")
    with pytest.raises(ConfigurationError, match=r"bad\.jwk"):
        read(deployment)
