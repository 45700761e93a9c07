"""The dispatcher of an App: packs messages, starts workflows, settles deliveries and reads the data of a step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paigeant.dispatch.beginning import Beginning
from paigeant.dispatch.packing import Packing
from paigeant.dispatch.posting import Posting
from paigeant.dispatch.proving import Proving
from paigeant.dispatch.reading import Reading
from paigeant.dispatch.settling import Settling
from paigeant.records.workflow import Owner
from paigeant.wire import codec
from paigeant.wire.limits import STEPS, VALUE
from paigeant.wire.message import PaigeantMessage

if TYPE_CHECKING:
    from paigeant.security.notary import Notary


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatcher(Posting):
    """Publishes messages and settles deliveries for one App, in five parts.

    A message has at most ``message_limit`` bytes and ``step_limit`` steps. Values of ``large`` bytes or more are stored
    outside the message, up to ``value_limit`` bytes. A message that was
    due ``late_after`` seconds ago is late: recovery may consider it lost. ``stream_retention``: seconds for which
    streamed values are stored. ``notary`` signs, if the App signs.
    """

    app: str
    prefix: str
    message_limit: int
    stream_retention: float = 86_400.0
    large: int = 65_536
    value_limit: int = VALUE
    step_limit: int = STEPS
    late_after: float = math.inf
    owner: Owner | None = None
    notary: Notary | None = None
    packing: Packing = field(init=False, compare=False, repr=False)
    beginning: Beginning = field(init=False, compare=False, repr=False)
    settling: Settling = field(init=False, compare=False, repr=False)
    reading: Reading = field(init=False, compare=False, repr=False)
    proving: Proving = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        packing = Packing(
            features=self.transport.features,
            has_store=self.store is not None,
            has_keeper=self.keeper is not None,
            app=self.app,
            prefix=self.prefix,
            message_limit=self.message_limit,
            large=self.large,
            value_limit=self.value_limit,
            step_limit=self.step_limit,
            owner=self.owner,
            notary=self.notary,
        )
        proving = Proving(self.store, self.notary)
        parts = {
            "proving": proving,
            "packing": packing,
            "beginning": Beginning(self, packing),
            "settling": Settling(self, packing),
            "reading": Reading(self.store, self.keeper, self.late_after, proving),
        }
        for name, part in parts.items():
            object.__setattr__(self, name, part)  # the class is frozen

    def decoded(self, body: bytes) -> PaigeantMessage:
        """Return the bytes of a message as a message, within the limits of the settings.

        Raises:
            MessageError: the bytes are no message that this release accepts.
        """
        return codec.decode(body, self.message_limit, self.step_limit)
