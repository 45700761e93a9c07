"""What pytest knows of paigeant: two fixtures and one option, which import nothing of it before they are used."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from paigeant.testing import Report, WorkflowRun


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let nightly runs try more than others."""
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
