"""The files of examples/deploy are valid, agree with each other, and run the App that they deploy."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from textwrap import indent
from urllib.parse import urlsplit

import pytest

pytest.importorskip("yaml", reason="tox -e deploy has the schemas of Compose and Kubernetes")

import deployments
from brokers.servers import free_port
from deployments import DEPLOYMENTS, FILES, KUBERNETES, SYSTEMD, Command
from docs.markdown import ROOT, blocks
from helpers import until
from processes import Process, run, start
from roles import Roles, made

from paigeant.cli import cli
from paigeant.cli.stopping import PATIENCE as HANDING_BACK
from paigeant.config import Settings

PAGE = ROOT / "docs" / "how-to" / "deploy.md"

LONGEST = 60.0
"""Seconds for a command."""


def tool(name: str) -> str:
    """A program that checks one kind of file; where it is missing, the test is skipped."""
    if (found := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed here")
    return found


def checked(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=LONGEST, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# --- each file is valid ----------------------------------------------------------------------------------------------


def test_compose_file_matches_its_schema() -> None:
    """The schema is that of the Compose specification."""
    pytest.importorskip("check_jsonschema")
    from check_jsonschema import main

    with pytest.raises(SystemExit) as ended:
        main(["--builtin-schema", "vendor.compose-spec", str(FILES / "compose.yaml")])
    assert ended.value.code == 0


@pytest.mark.parametrize("version", ["1.30", "latest"])
def test_manifests_match_their_schemas(version: str) -> None:
    """Strictly: an unknown field is an error, as it is for `kubectl apply`."""
    schemas = pytest.importorskip("kubernetes_validate")
    wanted = ".".join(schemas.latest_version().split(".")[:2]) if version == "latest" else version
    for manifest in deployments.manifests():
        schemas.validate(manifest, wanted, strict=True)


def test_kustomization_builds() -> None:
    """It has the files that a release changes, and neither passwords nor the Job."""
    built = checked(tool("kubectl"), "kustomize", KUBERNETES)
    assert sorted(re.findall(r"^kind: (\w+)$", built, re.MULTILINE)) == [
        "ConfigMap",
        "Deployment",
        "PodDisruptionBudget",
    ]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing; the program exists in the test, as on the reader's machine."""
    analyze = tool("systemd-analyze")
    for path in SYSTEMD.glob("*.service"):
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/shop/venv/bin/paigeant", "/bin/true"))
    units = sorted(tmp_path.glob("*.service"))
    assert len(units) == 2
    done = subprocess.run(
        [analyze, "verify", "--man=no", *units], capture_output=True, text=True, timeout=LONGEST, check=False
    )
    told = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "shop-" in line]
    assert (done.returncode, told) == (0, [])


# --- the files agree -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", DEPLOYMENTS)
def test_every_variable_is_a_setting(place: str) -> None:
    """A misspelt one would be ignored."""
    deployed = DEPLOYMENTS[place]()
    said = {*deployed.worker.environment, *deployed.migrate.environment}
    known = {f"PAIGEANT_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in said if name.startswith("PAIGEANT_")} <= known
    assert "PAIGEANT_BROKER_URL" in said


@pytest.mark.parametrize("place", DEPLOYMENTS)
def test_a_worker_has_time_to_hand_back(place: str) -> None:
    """SIGKILL comes after the shutdown timeout and the ten seconds after it."""
    deployed = DEPLOYMENTS[place]()
    default = Settings.model_fields["shutdown_timeout"].default
    shutdown = float(deployed.worker.environment.get("PAIGEANT_SHUTDOWN_TIMEOUT", default))
    assert deployed.grace > shutdown + HANDING_BACK


@pytest.mark.parametrize("place", DEPLOYMENTS)
def test_commands_parse(place: str) -> None:
    """Both are commands of this release, started without a shell."""
    deployed = DEPLOYMENTS[place]()
    for command, name in ((deployed.migrate, "migrate"), (deployed.worker, "worker")):
        program, *words = command.words
        assert (Path(program).name, words[0]) == ("paigeant", name)
        found = cli.get_command(cli.make_context("paigeant", [name]), name)
        found.make_context(name, words[1:])


def test_kubernetes_asks_the_port_that_answers() -> None:
    """The probes name a port of the container, which is the setting, on an address that the kubelet reaches."""
    worker = deployments.in_kubernetes().worker
    pod = deployments.manifest("Deployment", "shop-worker")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    asked = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {str(ports[one["port"]]) for one in asked.values()} == {worker.environment["PAIGEANT_HEALTH_PORT"]}
    assert [one["path"] for one in asked.values()] == ["/live", "/live", "/ready"]
    assert worker.environment["PAIGEANT_HEALTH_HOST"] == "0.0.0.0"


def test_kubernetes_labels_agree() -> None:
    """A selector that matches no pod does nothing, silently."""
    deployment = deployments.manifest("Deployment", "shop-worker")["spec"]
    budget = deployments.manifest("PodDisruptionBudget", "shop-worker")["spec"]
    job = deployments.manifest("Job", "shop-migrate")["spec"]["template"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == budget["selector"]["matchLabels"] == labels
    assert job["metadata"]["labels"] != labels
    images = {pod["spec"]["containers"][0]["image"] for pod in (deployment["template"], job)}
    assert len(images) == 1


def test_compose_waits_for_the_tables() -> None:
    """Workers start after the migration, and every volume is declared."""
    said = deployments.compose()
    worker = said["services"]["worker"]
    assert worker["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert worker["image"] == said["services"]["migrate"]["image"]
    mounted = {one.split(":")[0] for service in said["services"].values() for one in service.get("volumes", ())}
    assert mounted == set(said["volumes"])


def test_image_leaves_secrets_out() -> None:
    """Only named files are sent to the build, among them all that the Dockerfile copies."""
    allowed = {line.lstrip("!") for line in (FILES / ".dockerignore").read_text().split() if line.startswith("!")}
    copied = {rest.split()[0] for word, rest in deployments.instructions() if word == "COPY"}
    assert copied == allowed
    assert (FILES / ".dockerignore").read_text().startswith("**\n")


def test_excerpts_in_the_documentation_are_the_files() -> None:
    """A block of the page with the name of one of the files is a part of that file, word for word."""
    files = {path.name: path.read_text() for path in FILES.rglob("*") if path.is_file()}
    excerpts = [block for block in blocks(PAGE) if block.title in files]
    assert len(excerpts) == 7
    assert [block.place for block in excerpts if not is_part(block.source, files[str(block.title)])] == []


def is_part(excerpt: str, text: str) -> bool:
    """At whatever indentation, for the page's parser removes that of the whole block."""
    return any(indent(excerpt, " " * spaces) in text for spaces in range(0, 20, 2))


# --- and they run ----------------------------------------------------------------------------------------------------


def answers(port: int, path: str) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@contextmanager
def running(command: Command, log: Path, cwd: Path) -> Iterator[Process]:
    """The worker until the end of the test; it is killed if it does not stop before."""
    with log.open("wb") as out:
        process = start("-m", "paigeant", *command.words[1:], cwd=cwd, env=command.environment, stdout=out)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def roles(postgres_url: str) -> Iterator[Roles]:
    with made(postgres_url) as both:
        yield both


def on_this_machine(command: Command, url: str, roles: Roles, broker: str, prefix: str, port: int) -> Command:
    """The command with the servers of this test in the place of those that the files name."""
    said = dict(command.environment)
    user = urlsplit(said["PAIGEANT_STORE_URL"]).username or ""
    assert urlsplit(said["PAIGEANT_BROKER_URL"]).scheme == "amqp"
    said["PAIGEANT_STORE_URL"] = roles.of(user.rpartition("_")[2]) if "_" in user else url
    said |= {"PAIGEANT_BROKER_URL": broker, "PAIGEANT_QUEUE_PREFIX": prefix}
    said |= {"PAIGEANT_HEALTH_PORT": str(port), "PAIGEANT_HEALTH_HOST": "127.0.0.1"}
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PAIGEANT_")}
    return Command(command.words, ours | said)


@pytest.mark.parametrize("place", DEPLOYMENTS)
def test_it_runs(place: str, tmp_path: Path, postgres_url: str, roles: Roles, rabbitmq_url: str, prefix: str) -> None:
    """Migrate, start, become ready, run a workflow, stop, with the rights named there."""
    port = free_port()
    deployed = deployments.in_systemd(str(port)) if place == "systemd" else DEPLOYMENTS[place]()
    migrate, worker = (
        on_this_machine(one, postgres_url, roles, rabbitmq_url, prefix, port)
        for one in (deployed.migrate, deployed.worker)
    )
    shutil.copy(FILES / "shop.py", tmp_path)

    def paigeant(*words: str, environment: dict[str, str] = worker.environment) -> str:
        done = run("-m", "paigeant", *words, cwd=tmp_path, env=environment, timeout=LONGEST)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    paigeant(*migrate.words[1:], environment=migrate.environment)
    with running(worker, tmp_path / "log", tmp_path) as process:
        until(lambda: answers(port, "/ready") or process.poll() is not None, LONGEST)
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert answers(port, "/live")
        paigeant("dispatch", "price", "send_offer", "--input", '{"item": "kite"}', "--id", "one")
        assert paigeant("result", "one", "--timeout", "30").strip() == '"It costs 4.00"'
        process.send_signal(signal.SIGTERM)
        assert process.wait(deployed.grace) == 0, (tmp_path / "log").read_text()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_image_works(tmp_path: Path) -> None:
    """What the Dockerfile does, in a virtual environment in the place of the image: build, start, health, stop."""
    image = Image(tmp_path)
    for word, rest in deployments.instructions():
        image.do(word, rest)
    port = free_port()
    said = image.environment | {"PAIGEANT_HEALTH_PORT": str(port), "PAIGEANT_HEALTH_HOST": "127.0.0.1"}
    with (tmp_path / "log").open("wb") as out:
        worker = subprocess.Popen(deployments.image_command(), cwd=image.work, env=said, stdout=out, stderr=out)
    try:
        until(lambda: answers(port, "/ready") or worker.poll() is not None, LONGEST)
        assert worker.poll() is None, (tmp_path / "log").read_text()
        check = [word.replace(":8080/", f":{port}/") for word in deployments.health_check()]
        assert subprocess.run(check, env=said, timeout=LONGEST, check=False).returncode == 0
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(LONGEST) == 0
        assert subprocess.run(check, env=said, timeout=LONGEST, stderr=subprocess.DEVNULL, check=False).returncode != 0
    finally:
        worker.kill()
        worker.wait()


class Image:
    """A virtual environment and a folder that stand for an image. ``paigeant`` is built from this source tree."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder, folder / "app"
        venv = folder / "venv"
        checked("python3", "-m", "venv", venv)
        pip = venv / "bin" / "pip"
        checked(pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "wheels", ROOT)
        [wheel] = (folder / "wheels").glob("paigeant-*.whl")
        (folder / "constraints.txt").write_text(f"paigeant=={wheel.name.split('-')[1]}\n")
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("PAIGEANT_", "PYTHON"))}
        self.environment = outside | {
            "PATH": os.pathsep.join([str(venv / "bin"), os.environ["PATH"]]),
            "PIP_FIND_LINKS": f"{os.environ.get('PIP_FIND_LINKS', '')} {folder / 'wheels'}".strip(),
            "PIP_CONSTRAINT": str(folder / "constraints.txt"),
        }

    def do(self, word: str, rest: str) -> None:
        match word:
            case "ENV":
                self.environment |= deployments.variables(rest)
            case "WORKDIR":
                assert rest == "/app"
                self.work.mkdir()
            case "COPY":
                name, target = rest.split()
                assert target == "."
                shutil.copy(FILES / name, self.work)
            case "RUN":
                done = subprocess.run(
                    rest, shell=True, cwd=self.work, env=self.environment, capture_output=True, timeout=300, check=False
                )
                assert done.returncode == 0, done.stdout + done.stderr
            case "FROM" | "USER" | "EXPOSE" | "HEALTHCHECK" | "CMD":
                pass  # for the builder alone, or run by the test
            case _:
                raise AssertionError(f"the test does not know the instruction {word}")
