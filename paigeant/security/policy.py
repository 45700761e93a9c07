"""Reads the trust policy of a deployment: a TOML file, or the table ``[tool.paigeant.trust]`` of pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paigeant.errors import ConfigurationError
from paigeant.records.trust import ActivityRule, Policy, Right, Rule
from paigeant.runtime.nearest import did_you_mean

_MEMBERS = ("audience", "max_age", "keys", "key", "activity")
_OF_KEY = ("name", "spiffe", *(right.value for right in Right))
_OF_ACTIVITY = ("scopes", "approval")
_FOUR_EYES = "four-eyes"
_AGE = re.compile(r"(\d+)\s*([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def load(path: Path) -> tuple[Policy, str]:
    """Read a policy, and where it says that the public keys are (a path relative to the file, or a URL).

    Raises:
        ConfigurationError: the file cannot be read, or is no policy; the text names the rule.
    """
    try:
        data = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(
            f"the trust policy {path} cannot be read: {error.strerror}",
            hint="paigeant keys init NAME writes one; PAIGEANT_TRUST names it",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the trust policy {path} is no TOML: {error}") from None
    if path.name == "pyproject.toml":
        data = data.get("tool", {}).get("paigeant", {}).get("trust", {})
    return parse(data, str(path))


def parse(data: Mapping[str, Any], where: str) -> tuple[Policy, str]:
    """Read a parsed policy; see :func:`load`."""
    _refuse_unknown(data, _MEMBERS, where)
    audience, keys = data.get("audience"), data.get("keys", "keys")
    if not isinstance(audience, str) or not audience:
        raise ConfigurationError(f"{where}: audience is missing", hint='name the deployment: audience = "orders.prod"')
    if not isinstance(keys, str):
        raise ConfigurationError(f"{where}: keys is neither a path nor a URL")
    rules = dict[str, Rule]()
    for number, one in enumerate(_list(data, "key", where), start=1):
        rule = _rule(one, f"{where}: [[key]] number {number}")
        if rules.setdefault(rule.name, rule) is not rule:
            raise ConfigurationError(f"{where}: two [[key]] have the name {rule.name!r}")
    activities = _table(data, "activity", where)
    needs = {name: _needs(one, f"{where}: [activity.{name}]") for name, one in activities.items()}
    return Policy(audience, rules, needs, _seconds(data.get("max_age", "30d"), f"{where}: max_age")), keys


def _rule(data: Any, where: str) -> Rule:
    if not isinstance(data, dict) or not isinstance(name := data.get("name"), str) or not name:
        raise ConfigurationError(f"{where} has no name", hint='name = "checkout"')
    _refuse_unknown(data, _OF_KEY, f"{where} ({name})")
    rights = {right: _patterns(data[right], f"{where} ({name}): {right}") for right in Right if right in data}
    spiffe = data.get("spiffe")
    if spiffe is not None and not isinstance(spiffe, str):
        raise ConfigurationError(f"{where} ({name}): spiffe is no text")
    return Rule(name, rights, spiffe)


def _needs(data: Any, where: str) -> ActivityRule:
    if not isinstance(data, dict):
        raise ConfigurationError(f"{where} is no table")
    _refuse_unknown(data, _OF_ACTIVITY, where)
    approval = data.get("approval")
    if approval not in (None, _FOUR_EYES):
        raise ConfigurationError(f"{where}: approval is {approval!r}", hint=f"the only kind is {_FOUR_EYES!r}")
    return ActivityRule(frozenset(_patterns(data.get("scopes", []), f"{where}: scopes")), approval == _FOUR_EYES)


def _patterns(data: Any, where: str) -> tuple[str, ...]:
    if not isinstance(data, list) or not all(isinstance(one, str) and one for one in data):
        raise ConfigurationError(f"{where} is no list of texts")
    for one in data:
        if "*" in one[:-1]:
            raise ConfigurationError(f"{where}: {one!r} has a * that is not at its end")
    return tuple(data)


def _list(data: Mapping[str, Any], name: str, where: str) -> list[Any]:
    found = data.get(name, [])
    if not isinstance(found, list):
        raise ConfigurationError(f"{where}: write [[{name}]], with two brackets, for each {name}")
    return found


def _table(data: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    found = data.get(name, {})
    if not isinstance(found, dict):
        raise ConfigurationError(f"{where}: {name} is no table")
    return found


def _refuse_unknown(data: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in data:
        if name not in known:
            hint = did_you_mean(name, known, f"it has: {', '.join(known)}")
            raise ConfigurationError(f"{where} has no setting {name!r}", hint=hint)


def _seconds(given: Any, where: str) -> float:
    if isinstance(given, int | float) and not isinstance(given, bool) and given > 0:
        return float(given)
    if isinstance(given, str) and (found := _AGE.fullmatch(given)):
        return float(int(found[1]) * _UNITS[found[2]])
    raise ConfigurationError(f"{where} is {given!r}", hint='write seconds, or "12h", "30d"')
