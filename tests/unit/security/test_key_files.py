"""Keys are made, rotated and revoked in files: nothing is overwritten, and an interruption loses nothing."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from paigeant.errors import ConfigurationError
from paigeant.records.trust import Right
from paigeant.security.jws import BadSignature
from paigeant.security.key_files import KeyFiles, Made, Promoted
from paigeant.security.keyring import Files, State
from paigeant.security.policy import load
from paigeant.security.policy_text import admit
from paigeant.security.signing import secrets_of, signer_of

NOW = 1_796_000_000.0


@pytest.fixture
def files(tmp_path: Path) -> KeyFiles:
    return KeyFiles.of(tmp_path / "trust.toml")


def states(files: KeyFiles) -> dict[str, State]:
    return {key.kid: key.state for key in files.known()}


def test_a_key_is_for_its_owner_only_and_its_public_part_for_all(files, tmp_path):
    """The private file is readable by nobody else, whatever the umask is."""
    made = files.create("shop")
    assert stat.S_IMODE(made.private.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.public.stat().st_mode) == 0o644
    assert "d" not in json.loads(made.public.read_text())
    assert signer_of(str(made.private)).kid == made.kid
    assert states(files) == {made.kid: State.CURRENT}
    assert sorted(one.name for one in tmp_path.iterdir()) == ["keys", "shop.key"]


def test_nothing_is_overwritten(files):
    made = files.create("shop")
    before = made.private.read_text()
    with pytest.raises(ConfigurationError, match="has a key already"):
        files.create("shop")
    files.revoke(made.kid)
    with pytest.raises(ConfigurationError, match="is not overwritten"):
        files.create("shop")
    assert made.private.read_text() == before


@pytest.mark.parametrize("name", ["", "../shop", "a/b", ".hidden", "shop.next", "x" * 65, "a b"])
def test_a_name_that_is_no_file_is_refused(files, name):
    with pytest.raises(ConfigurationError, match="cannot be the name"):
        files.create(name)


def test_two_steps_rotate_a_key(files):
    """The next key is accepted before it signs, and the old one for a while after that."""
    old = files.create("shop")
    made = files.rotate("shop", 60, NOW)
    assert isinstance(made, Made)
    assert states(files) == {old.kid: State.CURRENT, made.kid: State.NEXT}
    done = files.rotate("shop", 60, NOW)
    assert isinstance(done, Promoted)
    assert states(files) == {old.kid: State.RETIRED, made.kid: State.CURRENT}
    assert signer_of(str(old.private)).kid == made.kid
    retired = Files(files.keys).read()[old.kid]
    retired.check(NOW + 60)
    with pytest.raises(BadSignature):
        retired.check(NOW + 61)
    assert retired.refuses_signing(NOW) is None
    assert retired.refuses_signing(NOW + 61) == "is retired"


def test_an_interrupted_rotation_is_finished_by_the_next_call(files, monkeypatch):
    """A crash between the public files and the private one leaves the next key in its file."""
    old, made = files.create("shop"), files.rotate("shop", 60, NOW)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _fail_for(made.private))
        with pytest.raises(OSError, match="power"):
            files.rotate("shop", 60, NOW)
    assert signer_of(str(old.private)).kid == old.kid
    files.rotate("shop", 60, NOW)
    assert signer_of(str(old.private)).kid == made.kid
    assert states(files) == {old.kid: State.RETIRED, made.kid: State.CURRENT}


def _fail_for(path: Path):
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if self == path:
            raise OSError("power cut")
        return real(self, target)

    return replace


def test_a_next_key_without_its_private_part_is_not_promoted(files):
    files.create("shop")
    files.rotate("shop", 60, NOW).private.unlink()
    with pytest.raises(ConfigurationError, match="private part of the next key"):
        files.rotate("shop", 60, NOW)


def test_a_revoked_key_stays_known_as_revoked(files):
    made = files.create("shop")
    assert files.revoke(made.kid).name == "shop"
    with pytest.raises(BadSignature, match="revoked"):
        Files(files.keys).read()[made.kid].check(0)
    with pytest.raises(ConfigurationError, match="no key 'shop-0'"):
        files.revoke("shop-0")


def test_the_jwk_set_has_no_private_member(files):
    files.create("shop")
    files.create("ops")
    keys = files.jwks()["keys"]
    assert [one["paigeant"]["name"] for one in keys] == ["ops", "shop"]
    assert not any({"d", "k"} & one.keys() for one in keys)


def test_a_secret_of_a_team_is_no_public_key(files):
    made = files.create_secret("team")
    assert made.public is None
    assert [one.kid for one in secrets_of(str(made.private))] == [made.kid]
    with pytest.raises(ConfigurationError, match='signing = "shared"'):
        signer_of(str(made.private))


def test_keys_at_a_url_are_not_changed_here(tmp_path):
    (tmp_path / "trust.toml").write_text('audience = "a"\nkeys = "https://keys.example/jwks.json"\n')
    with pytest.raises(ConfigurationError, match="only a folder"):
        KeyFiles.of(tmp_path / "trust.toml")


# --- the policy beside them ------------------------------------------------------------------------------------------

RIGHTS = {Right.DISPATCH: ["*"], Right.RUN: ["check", "charge"], Right.SCOPES: []}


def test_the_first_policy_has_the_rule_of_the_key(tmp_path):
    path = tmp_path / "trust.toml"
    assert admit(path, "orders.prod", "shop", RIGHTS) is None
    policy, keys = load(path)
    assert (policy.audience, keys) == ("orders.prod", "keys")
    assert policy.allows("shop", Right.RUN, "charge")
    assert not policy.allows("shop", Right.RUN, "refund")


def test_an_existing_policy_gets_the_rule_and_keeps_its_text(tmp_path):
    path = tmp_path / "trust.toml"
    before = 'audience = "a"  # ours\n\n[activity.refund]\nscopes = ["refunds"]\n'
    path.write_text(before)
    assert admit(path, "b", "shop", RIGHTS) is None
    assert path.read_text().startswith(before)
    assert load(path)[0].allows("shop", Right.RUN, "check")
    assert load(path)[0].audience == "a"


def test_an_existing_rule_is_kept_and_what_it_lacks_is_named(tmp_path):
    path = tmp_path / "trust.toml"
    before = 'audience = "a"\n[[key]]\nname = "shop"\ndispatch = ["*"]\nrun = ["check"]\n'
    path.write_text(before)
    assert admit(path, "b", "shop", RIGHTS) == '[[key]]   # shop\nrun = [..., "charge"]\n'
    assert path.read_text() == before


def test_a_policy_that_takes_no_more_tables_is_kept(tmp_path):
    """Somebody wrote the rules as a list in one line."""
    path = tmp_path / "trust.toml"
    before = 'audience = "a"\nkey = [{name = "ops"}]\n'
    path.write_text(before)
    assert '[[key]]\nname = "shop"' in admit(path, "b", "shop", RIGHTS)
    assert path.read_text() == before


def test_a_policy_in_pyproject_gets_its_rule_there(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\nname = "x"\n[tool.paigeant.trust]\naudience = "a"\n')
    assert admit(path, "b", "shop", RIGHTS) is None
    assert load(path)[0].allows("shop", Right.RUN, "charge")
