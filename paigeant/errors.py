"""Everything paigeant raises, in one tree split by who has to act.

* the developer: :class:`ConfigurationError` and its children,
* the sender of a message: :class:`MessageError` (never retried, set aside with a reason),
* the operator: :class:`TransportError`, :class:`StoreError` (retried),
* the caller waiting for a workflow: :class:`WorkflowError` and its children.

An activity's own exceptions are not in this tree: they become an outcome.
"""

from __future__ import annotations

from typing import Any


class PaigeantError(Exception):
    """Base of every error paigeant raises on its own account.

    The first argument says what happened; ``hint`` says what to do about it, and every traceback shows it.
    """

    _hint: str | None = None

    def __init__(self, *args: object, hint: str | None = None) -> None:
        super().__init__(*(args or (_first_line(type(self).__doc__),)))
        self.hint = hint

    @property
    def hint(self) -> str | None:
        """What to do about it."""
        return self._hint

    @hint.setter
    def hint(self, hint: str | None) -> None:
        notes: list[str] = self.__dict__.setdefault("__notes__", [])
        if self._hint is not None and (shown := _note(self._hint)) in notes:
            notes.remove(shown)
        self._hint = hint
        if hint is not None:
            notes.append(_note(hint))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles carry the arguments, the hint, the notes and all attributes."""
        state = {name: list(value) if name == "__notes__" else value for name, value in self.__dict__.items()}
        return _revived, (type(self), self.args, state)


def _revived(kind: type[PaigeantError], args: tuple[object, ...], state: dict[str, Any]) -> PaigeantError:
    """The error that was pickled, made without its own ``__init__``: that one may ask for more than ``args``."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _note(hint: str) -> str:
    return f"hint: {hint}"


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]


# --- the developer -----------------------------------------------------------------------------------------------


class ConfigurationError(PaigeantError):
    """The program or its settings are wrong; nothing was sent."""


class AppNotFound(ConfigurationError):
    """No App could be loaded from the given module."""


class DuplicateActivity(ConfigurationError):
    """Two activities of one App have the same name."""


class InvalidArguments(ConfigurationError):
    """The arguments do not fit the activity's signature."""


class UnknownActivity(InvalidArguments):
    """Neither the App nor a live worker has an activity of this name."""


class NotSerializable(ConfigurationError):
    """A value cannot be written as JSON; the message names its path."""


class StoreRequired(ConfigurationError):
    """This operation reads the store, and the App has none."""


# --- the sender of a message -------------------------------------------------------------------------------------


class MessageError(PaigeantError):
    """A message cannot be accepted. It is set aside with this reason and never retried."""


class MalformedMessage(MessageError):
    """The bytes are not a paigeant message."""


class UnsupportedVersion(MessageError):
    """The message has a ``spec_version`` this release does not know."""


class MessageTooLarge(MessageError):
    """A message or a value is larger than the configured limit, or a message has more steps than that."""


class SignalTimeout(MessageError):
    """The event that a step waited for did not arrive in time."""


class StartTimeout(MessageError):
    """A step was not started in the time it was given to wait in its queue."""


class DeadlineReached(MessageError):
    """The workflow's deadline has come; no further step of it is started."""


class ApprovalDenied(MessageError):
    """Somebody denied what a step asked for."""


class BudgetExceeded(MessageError):
    """The workflow has used up its budget; what would use more is not started."""


class ValueMissing(MessageError):
    """A value that was kept aside is not there, or is not the one that was kept."""


class UnprovedOutput(ValueMissing):
    """The store has an output that no trusted signature vouches for, so no step reads it and no caller gets it.

    ``code`` is for programs, the text for people; ``UnprovedOutput(code, text)`` has both.
    """

    def __init__(self, *said: str, hint: str | None = None) -> None:
        code, *text = said if len(said) > 1 else ("no-proof", *said)
        super().__init__(*text, hint=hint)
        self.code = code


class ForeignValue(MessageError):
    """A message refers to an output or a large value of a workflow that its own workflow may not read."""


class ForeignQueue(MessageError):
    """A message names a queue of another App to which this worker does not publish."""


class ClaimsTooMuch(MessageError):
    """A message says that steps were inserted beyond what its own grant allows."""


class Untrusted(MessageError):
    """A message is not trusted: a signature is missing or wrong, or it says what its signer may not say.

    ``code`` is for programs, the text for people; ``Untrusted(code, text)`` has both.
    """

    def __init__(self, *said: str, hint: str | None = None) -> None:
        code, *text = said if len(said) > 1 else ("untrusted", *said)
        super().__init__(*text, hint=hint)
        self.code = code


class InvalidInput(MessageError):
    """The values that reached an activity do not fit its parameters; retrying cannot help."""


class GrantExceeded(MessageError):
    """A step changed the itinerary in a way that its workflow's grant does not allow: dispatch with another grant."""


class TokenRefused(MessageError):
    """The token of the user on whose behalf a workflow runs is not valid, or this worker cannot check it."""


class ScopesMissing(TokenRefused):
    """A step needs scopes that the token of the user does not have: dispatch with a token that has them."""


class JournalMismatch(PaigeantError):
    """The journal of an agent step was written by other code: tools, prompts or the model have changed since.

    The step waits for an operator: deploy the code that wrote it, or start the step from scratch (``retry --fresh``).
    """


class ChildFailed(PaigeantError):
    """A workflow that a step dispatched and waited for did not complete."""


class BranchesFailed(ChildFailed):
    """Fewer branches of a scatter completed than its policy asks for."""


# --- the operator ------------------------------------------------------------------------------------------------


class TransportError(PaigeantError):
    """The broker cannot be reached or refused the operation."""


class BrokerRefused(TransportError):
    """The broker refuses this message or its queue; other messages are not affected. Remove the reason it gives.

    ``again``: whether the same message may be accepted later.
    """

    def __init__(self, *args: object, hint: str | None = None, again: bool = True) -> None:
        super().__init__(*args, hint=hint)
        self.again = again


class StoreError(PaigeantError):
    """The store cannot be reached or refused the operation."""


class StoreRefused(StoreError):
    """The store cannot take a value, now or later."""


class SchemaMismatch(StoreError):
    """The tables of the database are not those that this release of paigeant works with."""


class SchemaTooNew(SchemaMismatch):
    """A newer release of paigeant changed the tables so that this one can no longer use them: upgrade it."""


class SchemaTooOld(SchemaMismatch):
    """The tables lack what this release needs, and the role may not change them: run ``paigeant migrate`` as owner."""


class KeysUnavailable(PaigeantError):
    """The keys with which tokens of users are checked cannot be fetched; the step is tried again.

    ``again_in``: seconds until the keys may be fetched again.
    """

    def __init__(self, *args: object, hint: str | None = None, again_in: float = 10.0) -> None:
        super().__init__(*args, hint=hint)
        self.again_in = again_in


class KeyUnknown(KeysUnavailable):
    """The issuer publishes no key with the id that a token names; after a while the token is refused."""


class Superseded(PaigeantError):
    """Another worker owns this delivery now: its lease ran out and this worker's result was refused."""


class ResultRefused(PaigeantError):
    """The store refused the end of a step: another worker had recorded one, or has begun the step since."""


class AttemptEnded(PaigeantError):
    """This attempt was ended by its timeout or the stop of its worker: what it does from now on is ignored."""


class HeartbeatTimeout(PaigeantError, TimeoutError):
    """A step gave no sign of life for longer than its heartbeat timeout."""


# --- the caller --------------------------------------------------------------------------------------------------


class ScheduleNotFound(PaigeantError):
    """There is no schedule of this name."""


class ScheduleInUse(PaigeantError):
    """The schedule is in the code of living workers, and is not deleted under their hands."""


class DeadLetterError(PaigeantError):
    """A dead letter cannot be sent again or changed as asked; it stays where it is."""


class DeadLetterNotFound(DeadLetterError):
    """There is no such dead letter, or not any more."""


class WorkflowError(PaigeantError):
    """Base of what a caller of :meth:`Workflow.result` may get instead of a result."""

    def __init__(self, message: str, *, correlation_id: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.correlation_id = correlation_id


class WorkflowNotFound(WorkflowError):
    """The store knows no workflow with this id."""


class IdempotencyConflict(WorkflowError):
    """The idempotency key belongs to a workflow with other steps, arguments, variables or name; nothing was sent."""


class WorkflowFailed(WorkflowError):
    """The workflow ended as ``failed``."""


class WorkflowCancelled(WorkflowError):
    """The workflow was cancelled before its end."""


class WorkflowTimeout(WorkflowError, TimeoutError):
    """The workflow did not end within the timeout of the caller; it is still running."""


class StreamBroken(PaigeantError):
    """A step whose stream was being read runs from its beginning again: read the events once more."""


class TurnTimeout(PaigeantError, TimeoutError):
    """A turn took longer than its timeout; it was ended."""
