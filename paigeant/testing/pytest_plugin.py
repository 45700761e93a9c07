"""The pytest plugin: two fixtures and one option. It imports paigeant's modules only on first use."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from paigeant.testing import Report, WorkflowRun


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option with which nightly runs try more fault plans."""
    parser.getgroup("paigeant").addoption(
        "--paigeant-random",
        type=int,
        default=0,
        metavar="N",
        help="have every simulate_workflow run N plans of faults, chosen by their seeds, besides its own",
    )


@pytest.fixture
def run_workflow() -> Callable[..., WorkflowRun]:
    """:func:`paigeant.testing.run`."""
    from paigeant.testing import run

    return run


@pytest.fixture
def simulate_workflow(pytestconfig: pytest.Config) -> Callable[..., Report]:
    """:func:`paigeant.testing.simulate`, with as many plans by seed as ``--paigeant-random`` says."""
    from paigeant.testing import simulate

    return partial(simulate, random=pytestconfig.getoption("--paigeant-random"))
