"""Writes trust policies: the first one of a deployment, and the rule of one more key."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paigeant.errors import ConfigurationError
from paigeant.records.trust import Policy, Right
from paigeant.security import policy as policies
from paigeant.security.key_files import write_policy

Rights = Mapping[Right, Sequence[str]]

_OPERATORS = """\
# order = ["redrive", "edit", "discard"]   # for those who operate: what they may do to messages that were set aside
# answer = ["refund"]                      # for those who approve: the activities that ask them
"""


def rule_text(name: str, rights: Rights, table: str = "key") -> str:
    """Return the ``[[key]]`` of a policy."""
    lines = [f"[[{table}]]", f"name = {_quoted(name)}"]
    lines += [f"{right.value} = [{', '.join(map(_quoted, patterns))}]" for right, patterns in rights.items()]
    return "\n".join(lines) + "\n" + _OPERATORS


def first_text(audience: str, name: str, rights: Rights) -> str:
    """Return a policy with one rule."""
    return (
        "# What each key may do. What no rule allows is refused. A pattern may end in *.\n"
        f"audience = {_quoted(audience)}   # names the deployment: messages for another one are refused\n"
        'max_age = "30d"   # how long a workflow may take\n'
        'keys = "keys"   # the folder of the public keys\n\n' + rule_text(name, rights)
    )


def admit(path: Path, audience: str, name: str, rights: Rights) -> str | None:
    """Add the rule of a key to a policy, or write the first policy; return lines that the user must add instead.

    A rule that exists is kept.

    Raises:
        ConfigurationError: the policy is wrong or cannot be written.
    """
    if not path.exists():
        write_policy(path, first_text(audience, name, rights))
        return None
    policy, _ = policies.load(path)
    if name in policy.rules:
        return _missing(policy, name, rights)
    before = path.read_text()
    table = "tool.paigeant.trust.key" if path.name == "pyproject.toml" else "key"
    rule = rule_text(name, rights, table)
    after = before.rstrip("\n") + "\n\n" + rule
    if not _is_right(after, path, policy, name):
        return rule
    write_policy(path, after)
    return None


def _is_right(text: str, path: Path, before: Policy, name: str) -> bool:
    """Whether the policy with the new rule can be read and has the rules it had."""
    try:
        data: Any = tomllib.loads(text)
        if path.name == "pyproject.toml":
            data = data["tool"]["paigeant"]["trust"]
        policy, _ = policies.parse(data, str(path))
    except (tomllib.TOMLDecodeError, ConfigurationError, KeyError):
        return False
    return policy.rules.keys() == before.rules.keys() | {name}


def _missing(policy: Policy, name: str, rights: Rights) -> str | None:
    """Return what the rule of the key lacks, as lines."""
    lacking = {
        right: [one for one in patterns if not policy.rules[name].allows(right, one)]
        for right, patterns in rights.items()
    }
    lines = [f"{right.value} = [..., {', '.join(map(_quoted, found))}]" for right, found in lacking.items() if found]
    return "\n".join([f"[[key]]   # {name}", *lines]) + "\n" if lines else None


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
