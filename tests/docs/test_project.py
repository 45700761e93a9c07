"""The files around the package are true: CONTRIBUTING.md, pyproject.toml, .pre-commit-config.yaml, tox.ini."""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
from docs.markdown import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PAGES = ["README.md", "CONTRIBUTING.md", "examples/README.md"]

_PATH = re.compile(r"`((?:paigeant|tests|docs|examples)/[\w./-]*)`")
_LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#]+)(?:#(?P<anchor>[\w-]+))?\)")


def test_paths_in_contributing_exist() -> None:
    """The map is that of the house; `NAME` stands for a name of the reader's."""
    named = {path for path in _PATH.findall(CONTRIBUTING) if "NAME" not in path}
    assert len(named) > 30
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """To files, and to headings in them. `mkdocs build` checks those of docs/ alone."""
    folder = (ROOT / page).parent
    links = [*_LINK.finditer((ROOT / page).read_text())]
    assert links
    assert [link[0] for link in links if not leads(folder / link["path"], link["anchor"])] == []


def leads(target: Path, anchor: str | None) -> bool:
    """Whether the file is there, with a heading for the anchor if the link has one."""
    return target.exists() and (anchor is None or anchor in {*map(slug, headings(target))})


def headings(page: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)


def slug(heading: str) -> str:
    """The anchor that Markdown renderers make of a heading."""
    return re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-")


def test_every_room_is_on_the_map() -> None:
    """A new folder gets a line that says what it is for."""
    table = CONTRIBUTING.partition("| room | has |")[2].partition("\n\n")[0]
    rooms = {one.name for one in (ROOT / "paigeant").iterdir() if (one / "__init__.py").exists()}
    assert sorted(room for room in rooms if f"`paigeant/{room}/`" not in table) == []


SYSTEMS = {
    "PostgreSQL for both": "paigeant-postgresql",
    "RabbitMQ without a store": "paigeant-rabbitmq-nostore",
    "Redis without a store": "paigeant-redis-nostore",
    "SQLite for both": "paigeant-sqlite",
}
"""Rows of *How far one server carries*, and of the benchmark's report."""


@pytest.mark.parametrize(("row", "system"), SYSTEMS.items())
def test_the_calculation_uses_the_measured_numbers(row: str, system: str) -> None:
    """And multiplies them correctly: when the benchmark is run again, the page about scaling follows."""
    cells = cells_of(ROOT / "docs" / "how-to" / "scale.md", row)
    measured = cells_of(ROOT / "docs" / "explanation" / "performance.md", system)
    rate, milliseconds = measured[1].split(" ")[0], measured[2].split(" ")[0]
    worker = float(rate.replace(",", "")) * float(milliseconds) / 1000
    assert (cells[1], cells[2]) == (rate, f"{rate} \u00d7 {milliseconds} ms = {worker:.2f}")
    if found := re.match(r"([\d.]+) cores, ([\d.]+) ms per hop", cells[3]):
        server = 2 - worker
        assert (found[1], found[2]) == (f"{server:.2f}", f"{server / float(rate.replace(',', '')) * 1000:.2f}")
        assert float(re.sub(r"\D", "", cells[4])) <= 1000 / float(found[2])


def cells_of(page: Path, first: str) -> list[str]:
    """The cells of the first row of a table whose first cell this is."""
    row, *_ = [line for line in page.read_text().splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_every_dependency_says_what_it_is_for() -> None:
    """Each is a reason for somebody not to install paigeant, so it must have a reason of its own."""
    text = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [\n")[2].partition("\n]\n")[0]
    lines = text.splitlines()
    assert len(lines) == len(PROJECT["project"]["dependencies"])
    assert [line for line in lines if not re.search(r'",\s+# \w', line)] == []


def test_both_ways_to_install_the_documentation_agree() -> None:
    """`pip install -e ".[docs]"` for people, the dependency group for `tox -e docs`."""
    assert PROJECT["project"]["optional-dependencies"]["docs"] == PROJECT["dependency-groups"]["docs"]


def test_hooks_need_pypi_alone() -> None:
    """They are local, and install what `tox -e lint` installs."""
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: (\S+)", hooks) == ["local"]
    installed = {name for line in re.findall(r"additional_dependencies: \[(.+)\]", hooks) for name in line.split(", ")}
    assert {name.strip('"') for name in installed} == set(PROJECT["dependency-groups"]["lint"])


def test_plain_tox_runs_every_environment_but_the_long_ones() -> None:
    """An environment that nobody runs does not fail."""
    parser = ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini")
    listed = set(re.split(r",\s*", parser["tox"]["env_list"]))
    defined = {name.partition(":")[2] for name in parser.sections() if name.startswith("testenv:")}
    assert defined - listed == {"endurance"}
    after = set(re.split(r",\s*", parser["testenv"]["depends"].partition(": ")[2]))
    assert after == listed - {"py311"}


def test_the_source_distribution_has_what_its_files_name() -> None:
    """Each pattern of the list matches something."""
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert [path for path in included if not (ROOT / Path(path.lstrip("/"))).exists()] == []
