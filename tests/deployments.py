"""The files of examples/deploy, read as Docker Compose, Kubernetes, systemd and `docker build` read them."""

from __future__ import annotations

import json
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from examples_run import EXAMPLES

FILES = EXAMPLES / "deploy"
KUBERNETES = FILES / "kubernetes"
SYSTEMD = FILES / "systemd"

_SIZES = {"s": 1.0, "m": 60.0, "h": 3600.0}
_VARIABLE = re.compile(r"\$\{(\w+):\?[^}]*\}")

Unit = Mapping[str, Mapping[str, list[str]]]


@dataclass(frozen=True)
class Command:
    """A program with its arguments and its environment."""

    words: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Deployment:
    """How the App runs somewhere. ``grace``: seconds from SIGTERM to SIGKILL."""

    migrate: Command
    worker: Command
    grace: float


# --- Dockerfile ----------------------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile: each instruction with what follows it, in order."""
    lines = [line for line in (FILES / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def variables(said: str) -> dict[str, str]:
    """What an ``ENV`` instruction sets."""
    return dict(word.split("=", 1) for word in shlex.split(said))


def image_environment() -> dict[str, str]:
    return {name: value for word, rest in instructions() if word == "ENV" for name, value in variables(rest).items()}


def image_command() -> list[str]:
    [command] = [rest for word, rest in instructions() if word == "CMD"]
    return list(json.loads(command))


def health_check() -> list[str]:
    [check] = [rest for word, rest in instructions() if word == "HEALTHCHECK"]
    return list(json.loads(check.partition("CMD ")[2]))


# --- Compose -------------------------------------------------------------------------------------------------------


def compose() -> dict[str, Any]:
    """The file after interpolation; each variable has the value ``secret``."""
    return dict(yaml.safe_load(_VARIABLE.sub("secret", (FILES / "compose.yaml").read_text())))


def in_compose() -> Deployment:
    services = compose()["services"]

    def command(service: Mapping[str, Any]) -> Command:
        return Command(service.get("command") or image_command(), image_environment() | service["environment"])

    return Deployment(
        command(services["migrate"]), command(services["worker"]), seconds(services["worker"]["stop_grace_period"])
    )


def seconds(text: str) -> float:
    """A duration such as ``60s``."""
    return float(text[:-1]) * _SIZES[text[-1]]


# --- Kubernetes ----------------------------------------------------------------------------------------------------


def manifests() -> list[dict[str, Any]]:
    """Every object, but not the instructions for kustomize."""
    files = sorted(path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml")
    return [one for path in files for one in yaml.safe_load_all(path.read_text())]


def manifest(kind: str, name: str) -> dict[str, Any]:
    [found] = [one for one in manifests() if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def in_kubernetes() -> Deployment:
    worker = manifest("Deployment", "shop-worker")["spec"]["template"]["spec"]
    migrate = manifest("Job", "shop-migrate")["spec"]["template"]["spec"]
    return Deployment(_in_pod(migrate), _in_pod(worker), worker["terminationGracePeriodSeconds"])


def _in_pod(pod: Mapping[str, Any]) -> Command:
    [container] = pod["containers"]
    environment = image_environment()
    for source in container["envFrom"]:
        if "configMapRef" in source:
            environment |= manifest("ConfigMap", source["configMapRef"]["name"])["data"]
        else:
            environment |= manifest("Secret", source["secretRef"]["name"])["stringData"]
    return Command(container["command"], environment)


# --- systemd -------------------------------------------------------------------------------------------------------


def unit(name: str) -> Unit:
    """A unit file by sections; a key may have several values."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in (SYSTEMD / name).read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), defaultdict(list))
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section[key].append(value)
    return sections


def in_systemd(instance: str = "8081") -> Deployment:
    worker, migrate = unit("shop-worker@.service")["Service"], unit("shop-migrate.service")["Service"]
    return Deployment(_of(migrate, instance), _of(worker, instance), float(worker["TimeoutStopSec"][0]))


def _of(service: Mapping[str, list[str]], instance: str) -> Command:
    environment: dict[str, str] = {}
    for path in service["EnvironmentFile"]:
        lines = (SYSTEMD / Path(path).name).read_text().splitlines()
        environment |= dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    return Command(shlex.split(service["ExecStart"][0].replace("%i", instance)), environment)


DEPLOYMENTS = {"compose": in_compose, "kubernetes": in_kubernetes, "systemd": in_systemd}
