"""Signing with one secret for a team."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paigeant.config import load_settings
from paigeant.errors import ConfigurationError
from paigeant.records.trust import Right
from paigeant.security.key_files import KeyFiles
from paigeant.security.notary import Mode
from paigeant.security.signing import notary_of, secrets_of


def team(folder: Path, name: str = "team") -> str:
    return str(KeyFiles(folder, folder / "keys").create_secret(name).private)


def test_members_of_a_team_may_do_everything(tmp_path):
    notary = notary_of(load_settings(signing="shared", signing_key=team(tmp_path)), "shop")
    assert notary is not None
    assert (notary.mode, notary.is_strict, notary.signer.alg) == (Mode.SHARED, True, "HS256")
    assert all(notary.policy.allows(notary.name, right, "x") for right in Right)


def test_a_policy_narrows_what_a_team_may_do(tmp_path):
    policy = tmp_path / "trust.toml"
    policy.write_text('audience = "orders"\n[[key]]\nname = "shared"\nrun = ["check"]\n')
    settings = load_settings(signing="shared", signing_key=team(tmp_path), trust=str(policy))
    notary = notary_of(settings, "shop")
    assert notary is not None
    assert notary.policy.allows(notary.name, Right.RUN, "check")
    assert not notary.policy.allows(notary.name, Right.RUN, "refund")
    policy.write_text('audience = "orders"\n')
    with pytest.raises(ConfigurationError, match="no \\[\\[key\\]\\] with the name 'shared'"):
        notary_of(settings, "shop")


def test_a_set_signs_with_its_first_secret_and_verifies_with_all(tmp_path):
    """So a team changes its secret without refusing a message."""
    both = [json.loads(Path(team(tmp_path, name)).read_text()) for name in ("new", "old")]
    notary = notary_of(load_settings(signing="shared", signing_key=json.dumps({"keys": both})), "shop")
    assert notary is not None
    assert notary.signer.kid == both[0]["kid"]
    assert {*notary.keyring.all()} == {one["kid"] for one in both}


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ('{"kty":"oct","kid":"a","k":"AAAA"}', "has 3 bytes"),
        ('{"kty":"OKP","kid":"a","k":"AAAA"}', 'type "oct"'),
        ('{"kty":"oct","k":"AAAA"}', "no id"),
        ('{"keys":[]}', "no secret"),
        ("missing.key", "cannot be read"),
    ],
)
def test_what_is_no_secret_is_refused(secret, reason):
    with pytest.raises(ConfigurationError, match=reason):
        secrets_of(secret)


def test_a_secret_is_never_in_the_text_of_an_object(tmp_path):
    secret = Path(team(tmp_path)).read_text()
    notary = notary_of(load_settings(signing="shared", signing_key=secret), "shop")
    assert notary is not None
    assert json.loads(secret)["k"] not in repr(notary.signer)
    assert json.loads(secret)["k"] not in repr(load_settings(signing_key=secret))
