from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paigeant.cli.connect import named_app, settings_in_force
from paigeant.cli.errors import warn
from paigeant.cli.group import Subcommands, help_alone
from paigeant.cli.options import age, as_json
from paigeant.cli.output import iso, print_json, print_table, readable
from paigeant.cli.text import say

if TYPE_CHECKING:
    from paigeant.config import Settings
    from paigeant.records.trust import Right
    from paigeant.security.key_files import KeyFiles, Made, Promoted
    from paigeant.security.keyring import KnownKey

DEFAULT = "trust.toml"

_trust = click.option(
    "--trust", "trust_", metavar="FILE", help=f"Trust policy. Default: the setting trust, else {DEFAULT}."
)


def policy_path(given: str | None, settings: Settings | None = None) -> Path:
    """The policy that an option, the settings or the App in use name; else ``trust.toml`` in this folder."""
    return Path(given or (settings or settings_in_force()).trust or DEFAULT).expanduser()


def _files(given: str | None) -> KeyFiles:
    from paigeant.security.key_files import KeyFiles

    return KeyFiles.of(policy_path(given))


@click.group(cls=Subcommands, invoke_without_command=True)
@click.pass_context
def keys(context: click.Context) -> None:
    """Create, list, rotate and revoke signing keys.

    A private key signs the messages of one service or person. Its public key is in the folder that the trust policy
    names, where all workers read it.
    """
    help_alone(context)


# --- making ----------------------------------------------------------------------------------------------------------


@keys.command()
@click.argument("name")
@_trust
@click.option("--audience", metavar="TEXT", help="Name of the deployment in a new policy. Default: NAME.")
@click.option("--shared", is_flag=True, help="Create one secret for a team instead of a key and a policy.")
@as_json
def init(name: str, trust_: str | None, audience: str | None, shared: bool, as_json: bool) -> None:
    """Create a key for the service or person NAME, and a rule for it in the trust policy.

    With -A, the rule allows what the code of the App has. The command never overwrites a file.
    """
    from paigeant.security.key_files import KeyFiles
    from paigeant.security.policy_text import admit

    settings = settings_in_force()
    trust = policy_path(trust_, settings)
    if shared:
        made = KeyFiles(trust.parent, trust.parent / "keys").create_secret(name)
        _print_made(made, {"PAIGEANT_SIGNING": "shared", "PAIGEANT_SIGNING_KEY": str(made.private)}, as_json=as_json)
        return
    rights = _rights(settings)
    made = KeyFiles.of(trust).create(name)
    to_add = admit(trust, audience or name, name, rights)
    environment = {
        "PAIGEANT_SIGNING": "accept",
        "PAIGEANT_SIGNING_KEY": str(made.private),
        "PAIGEANT_TRUST": str(trust),
    }
    _print_made(made, environment, trust=trust, to_add=to_add, as_json=as_json)


def _rights(settings: Settings) -> dict[Right, list[str]]:
    """The rights that the code of the named App needs; without an App, none."""
    from paigeant.records.trust import ANYTHING, BUILT_IN, Right

    if settings.app is None:
        return {Right.DISPATCH: [], Right.RUN: [], Right.INSERT: [], Right.SCOPES: []}
    app = named_app(settings)
    own = sorted(name for name in app.activities if not name.startswith(BUILT_IN))
    scopes = sorted({scope for activity in app.activities.values() for scope in activity.scopes})
    return {Right.DISPATCH: [ANYTHING], Right.RUN: own, Right.INSERT: own, Right.SCOPES: scopes}


def _print_made(
    made: Made, environment: dict[str, str], *, trust: Path | None = None, to_add: str | None = None, as_json: bool
) -> None:
    if as_json:
        print_json(_made(made) | {"trust": trust and str(trust), "add": to_add, "settings": environment})
        return
    kind, who = ("private key", "this service") if made.public is not None else ("secret", "the team")
    say(f"{made.private}  {kind} {made.kid}: only {who} may read it; keep it out of version control")
    if made.public is not None:
        say(f"{made.public}  public key: give it to all workers")
    if trust is not None:
        say(f"{trust}  trust policy: {'has a rule for the key' if to_add is None else 'unchanged; add to it:'}")
    for line in (to_add or "").splitlines():
        say(f"  {line}")
    say("\nSet, for example in .env:")
    for name, value in environment.items():
        say(f"  {name}={value}")
    if trust is not None:
        say("\nOnce doctor finds nothing that is not signed: PAIGEANT_SIGNING=required\nNext: paigeant trust check")


def _made(made: Made) -> dict[str, Any]:
    public = None if made.public is None else str(made.public)
    return {"kid": made.kid, "private": str(made.private), "public": public}


# --- changing --------------------------------------------------------------------------------------------------------


@keys.command()
@click.argument("name")
@click.option(
    "--overlap",
    callback=age,
    default="1h",
    show_default=True,
    metavar="AGE",
    help="How long the old key may still sign after the second step: seconds, or 15m, 2h, 7d.",
)
@_trust
@as_json
def rotate(name: str, overlap: float, trust_: str | None, as_json: bool) -> None:
    """Rotate the key of NAME in two steps: run the command twice.

    The first step creates the next key. The second step makes it the current key and retires the old one. Give the
    public keys to all workers after each step, so that no message is refused.
    """
    from paigeant.security.key_files import Made

    done = _files(trust_).rotate(name, overlap, time.time())
    if isinstance(done, Made):
        _print_next(name, done, as_json=as_json)
    else:
        _print_promoted(name, done, as_json=as_json)


def _print_next(name: str, made: Made, *, as_json: bool) -> None:
    if as_json:
        print_json({"state": "next"} | _made(made))
        return
    say(f"{made.public}  next key {made.kid}: accepted as soon as a worker has read it")
    say("\nNow give the public keys to all workers. They read them again within a minute. Then:")
    say(f"  paigeant keys rotate {name}")


def _print_promoted(name: str, done: Promoted, *, as_json: bool) -> None:
    if as_json:
        about = {"kid": done.kid, "private": str(done.private), "retired": done.retired, "until": iso(done.until)}
        print_json({"state": "current"} | about)
        return
    say(f"{done.private}  current key {done.kid}")
    for kid in done.retired:
        say(f"{kid}  retired: its signatures are accepted until {readable(done.until)} UTC")
    say(f"\nGive the public keys to all workers, and restart the processes of {name} before that time.")


@keys.command()
@click.argument("kid")
@_trust
@as_json
def revoke(kid: str, trust_: str | None, as_json: bool) -> None:
    """Revoke the key KID, for example because somebody has stolen it.

    Workers trust nothing that it has signed, whenever that was. They refuse the messages of workflows that it began.
    """
    files = _files(trust_)
    revoked = files.revoke(kid)
    if as_json:
        print_json(_described(revoked) | {"state": "revoked"})
        return
    say(f"{kid}  revoked; give the public keys to all workers")
    if not any(one.name == revoked.name and one.state in ("current", "next") for one in files.known()):
        warn(f"{revoked.name!r} has no key now; make one: paigeant keys init {revoked.name}")


# --- looking ---------------------------------------------------------------------------------------------------------


@keys.command("list")
@_trust
@as_json
def list_(trust_: str | None, as_json: bool) -> None:
    """List the public keys with their states."""
    found = [*_known(trust_)]
    if as_json:
        print_json([_described(one) for one in found])
        return
    rows = [(one.name, one.kid, one.state.value, readable(one.until), _algorithm(one)) for one in found]
    print_table(("name", "key", "state", "until (UTC)", "algorithm"), rows, none="no keys: paigeant keys init NAME")


def _known(given: str | None) -> list[KnownKey]:
    from paigeant.security import policy as policies
    from paigeant.security.keyring import is_url, source_of

    path = policy_path(given)
    if path.exists() and is_url(where := policies.load(path)[1]):
        return sorted(source_of(where, path.parent).read().values(), key=lambda one: (one.name, one.kid))
    return [*_files(given).known()]


def _described(key: KnownKey) -> dict[str, Any]:
    about = {"name": key.name, "kid": key.kid, "state": key.state.value, "until": iso(key.until)}
    return about | {"algorithm": _algorithm(key)}


def _algorithm(key: KnownKey) -> str:
    return "EdDSA" if type(key.verifies).__name__.startswith("Ed25519") else "ES256"


@keys.command()
@_trust
def jwks(trust_: str | None) -> None:
    """Print the public keys as a JWK set, with names and states. You can publish it under an https URL."""
    print_json(_files(trust_).jwks())
