"""The contract between dead letters and where they are kept: a store, or a queue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager

from paigeant.decisions.redrive import NotRedrivable
from paigeant.dispatch.dispatcher import Dispatcher
from paigeant.errors import DeadLetterError, KeysUnavailable, MessageError
from paigeant.records.workflow import DeadLetter, Letters
from paigeant.wire.frame import is_frame
from paigeant.wire.message import PaigeantMessage


class Opened(ABC):
    """A dead letter in the hands of whoever wants to do something about it.

    Raises everywhere:
        DeadLetterNotFound: somebody else was quicker.
        TransportError, StoreError: it is unknown what was done; the same again does no harm.
    """

    letter: DeadLetter

    @abstractmethod
    async def redrive(self, by: str | None, *, fresh: bool) -> PaigeantMessage:
        """Send it again under the next epoch; as this message. ``fresh``: what its agent did is done anew.

        Raises:
            DeadLetterError: it cannot be sent again.
            MessageTooLarge: it has grown.
        """

    @abstractmethod
    async def discard(self, by: str | None, note: str, *, vouch: bool = False) -> None:
        """Throw it away. If its workflow waits for it, its step has failed with that.

        Nothing happens to the workflow that a refused message names, unless somebody can ``vouch`` for the message.
        """

    @abstractmethod
    async def replace(self, body: bytes, changed: list[str], by: str | None) -> DeadLetter:
        """Give it another body; ``changed`` names what is different."""


class LetterBox(ABC):
    """Where dead letters are kept."""

    dispatcher: Dispatcher

    @abstractmethod
    def now(self) -> float:
        """The time, in epoch seconds."""

    @abstractmethod
    def opened(
        self, which: Letters, ids: Collection[str] | None = None, most: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Opened]]:
        """Those that are meant, and of these only those with the given ids; at most so many, the latest first.

        Only what is there at the beginning: what is set aside meanwhile is not among them.
        """

    @abstractmethod
    async def count(self, which: Letters) -> int:
        """How many are meant."""

    def message(self, letter: DeadLetter) -> PaigeantMessage:
        """What it carries.

        Raises:
            DeadLetterError: its bytes are no message that this release accepts.
        """
        try:
            return self._verified(letter.body, self.dispatcher.decoded(letter.body))
        except (MessageError, KeysUnavailable) as error:
            raise DeadLetterError(
                f"dead letter {letter.id} cannot be read: {error}",
                hint=f"keep a copy with: paigeant dlq export {letter.id}, then paigeant dlq discard {letter.id}",
            ) from error

    def _verified(self, body: bytes, message: PaigeantMessage) -> PaigeantMessage:
        """The message with the statements that it came with, if they are right: what follows it can be signed then."""
        notary = self.dispatcher.notary
        if notary is None or not is_frame(body):
            return message
        return notary.opened(body, self.now(), self.dispatcher.decoded).message


def refused(letter: DeadLetter, verdict: NotRedrivable) -> DeadLetterError:
    """The error for a letter that cannot be sent again."""
    return DeadLetterError(
        f"dead letter {letter.id} cannot be sent again: {verdict.why}",
        hint=verdict.hint.replace("LETTER", str(letter.id)),
    )
