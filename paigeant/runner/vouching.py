"""Signs the units in the journal of an agent step, and believes none that its worker has not signed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from paigeant.errors import KeysUnavailable, Untrusted
from paigeant.records.journal import Turn, Unit
from paigeant.records.trust import Doubt
from paigeant.runner.run import Run

if TYPE_CHECKING:  # it brings cryptography, which an App that does not sign need not load
    from paigeant.security.notary import Notary

log = structlog.stdlib.get_logger("paigeant.runner")


@dataclass(frozen=True, slots=True)
class UnitsOf:
    """Signs and checks units for one run. ``tell`` records a doubt about one of them."""

    run: Run
    notary: Notary
    tell: Callable[[Doubt], None]

    def signed(self, turn: Turn, unit: Unit) -> Unit:
        """Return the unit with its proof."""
        return replace(unit, proof=self.notary.vouch(turn, unit, self.run.clock.now()))

    def believed(self, turn: Turn, units: Iterable[Unit]) -> Sequence[Unit]:
        """Return those of these units that are proved. The agent asks again for the others."""
        return [unit for unit in units if self._is_proved(turn, unit)]

    def _is_proved(self, turn: Turn, unit: Unit) -> bool:
        try:
            self.notary.check_unit(turn, unit, self.run.message.step.name)
        except (Untrusted, KeysUnavailable) as error:
            code = error.code if isinstance(error, Untrusted) else "unknown-key"
            log.warning("a unit in the journal of a step is not trusted", key=unit.key, code=code, reason=str(error))
            self.tell(Doubt(f"unit:{unit.key}", code, str(error)))
            return False
        return True


def vouching(run: Run, notary: Notary | None, tell: Callable[[Doubt], None]) -> UnitsOf | None:
    """Return what signs and checks the units of a run; None if its message is not signed."""
    return None if notary is None or run.message.chain is None else UnitsOf(run, notary, tell)
