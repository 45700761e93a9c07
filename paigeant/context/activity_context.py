"""The context of a running step: its facts, its changes, its waits and its signs of life."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, get_args

import structlog

from paigeant.context.on_behalf import OnBehalf
from paigeant.context.outputs import Outputs
from paigeant.context.planning import Planning
from paigeant.context.scattering import Scattering
from paigeant.context.services import Services
from paigeant.context.signs import Signs
from paigeant.context.state import StepState
from paigeant.context.variables import Variables
from paigeant.context.waiting import Waiting
from paigeant.decisions.outcome import Edits
from paigeant.wire.approval import Approval
from paigeant.wire.budget import Budget
from paigeant.wire.join import BranchResult, Policy
from paigeant.wire.message import PaigeantMessage
from paigeant.wire.slip import ActivitySpec, RoutingSlip
from paigeant.wire.times import When
from paigeant.wire.usage import Usage
from paigeant.wire.values import copied

_current: ContextVar[ActivityContext] = ContextVar("paigeant_context")


def takes_context(annotation: Any) -> bool:
    """Whether a parameter with this annotation receives the context. ``| None`` lets tests call without one."""
    return annotation is ActivityContext or ActivityContext in get_args(annotation)


@contextmanager
def made_current(context: ActivityContext) -> Iterator[None]:
    """Make this context the one that :meth:`ActivityContext.current` returns inside the ``with`` block."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


class ActivityContext:
    """The context of a running step, passed to every parameter with this annotation.

    ``attempt`` counts the attempts of the retry policy, ``deliveries`` those of the broker. ``state`` and ``services``
    are for paigeant itself and may change in any release.
    """

    __slots__ = ("_behalf", "_outputs", "_planning", "_scattering", "_signs", "_waiting", "services", "state")

    def __init__(self, state: StepState, services: Services | None = None) -> None:
        self.state = state
        self.services = services = services or Services()
        self._behalf = OnBehalf(state, services)
        self._outputs = Outputs(state, services)
        self._planning = Planning(state, services, self._outputs, self._behalf)
        self._waiting = Waiting(state, services)
        self._scattering = Scattering(state, services, self._planning, self._waiting)
        self._signs = Signs(state, services)

    @classmethod
    def current(cls) -> ActivityContext:
        """The context of the step that is running here.

        Raises:
            LookupError: no step is running here.
        """
        return _current.get()

    @classmethod
    def running(cls) -> ActivityContext | None:
        """The same as :meth:`current`, but None outside a step."""
        return _current.get(None)

    def fork(self, unit: str) -> ActivityContext:
        """A context for a tool call of an agent. Its state collects the changes of the call; see :class:`StepState`."""
        return ActivityContext(self.state.fork(unit), self.services)

    # --- facts -----------------------------------------------------------------------------------------------

    @property
    def logger(self) -> Any:
        """A structlog logger named after the activity."""
        return structlog.stdlib.get_logger(self.step.name)

    @property
    def correlation_id(self) -> str:
        """The workflow's id."""
        return self.state.message.correlation_id

    @property
    def step(self) -> ActivitySpec:
        """The step as planned."""
        return self.state.message.step

    @property
    def message(self) -> PaigeantMessage:
        """The message that carries the step. Do not change its contents."""
        return self.state.message

    @property
    def attempt(self) -> int:
        """The number of this attempt of the step, from 1."""
        return self.state.message.attempt

    @property
    def deliveries(self) -> int:
        """How often the broker has delivered this message; more than 1 after a crash."""
        return self.state.delivery.deliveries

    @property
    def progress(self) -> Any:
        """The last details that an earlier attempt of this step passed to :meth:`heartbeat`, as JSON types; or None."""
        return copied(self.state.message.progress)

    @property
    def cancelled(self) -> bool:
        """Whether somebody cancelled the workflow. Then clean up and return or raise; the step is interrupted soon.

        paigeant cannot interrupt a plain function, so one that takes long must check this.
        """
        stop = self.services.stop
        return stop is not None and stop.cancellation is not None

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt and redelivery of this step. Pass it to services that ignore duplicates.

        The compensation of the step has another key, and so has each tool call of an agent.
        """
        return self.state.idempotency_key

    @property
    def is_compensating(self) -> bool:
        """Whether the step is being compensated."""
        return self.state.is_compensating

    @property
    def variables(self) -> Variables:
        """The workflow's variables. The steps after this one see the changes that this step makes."""
        return self.state.variables

    @property
    def previous(self) -> Any:
        """The output of the step before this one, as JSON types; None at the start, and in a compensation."""
        return self._outputs.previous

    def output(self, step: str, type: Any = Any) -> Any:  # noqa: A002 - reads as ctx.output("validate", type=Customer)
        """The output of an earlier step, by name or id, as ``type``.

        paigeant reads large outputs, and outputs of steps long past, from the store. The call blocks meanwhile.

        Raises:
            KeyError: no such step has completed.
            StoreError: the store cannot be read.
        """
        return self._outputs.of(step, type)

    # --- the user --------------------------------------------------------------------------------------------

    @property
    def user_claims(self) -> Mapping[str, Any] | None:
        """The verified claims of the token of the user for whom the workflow runs; None without a user."""
        return self._behalf.claims

    @property
    def principal(self) -> str | None:
        """The user for whom the workflow runs: the subject of the token; None without a user."""
        return self._behalf.principal

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes of the token of the user for whom the workflow runs; none without a user."""
        return self._behalf.scopes

    @property
    def scopes_for_agents(self) -> frozenset[str]:
        """The scopes that an agent can pass on to steps that it plans: those that the activity declares."""
        return self._behalf.scopes_for_agents

    def assume_web_identity(
        self,
        role_arn: str,
        *,
        session_name: str | None = None,
        duration: int = 3600,
        region: str | None = None,
        endpoint_url: str | None = None,
    ) -> Any:
        """A ``boto3.Session`` with the permissions of an AWS role, for the user for whom the workflow runs.

        paigeant sends the workflow's token to AWS. The logs of AWS show ``session_name``, by default the user.
        ``duration`` is in seconds; ``endpoint_url`` selects another STS. The call blocks: async code calls it with
        ``asyncio.to_thread``. It needs the extra ``aws``.

        Raises:
            ConfigurationError: the workflow runs for no user, or boto3 is not installed.
            botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: AWS refuses or does not answer.
        """
        return self._behalf.assume_web_identity(role_arn, session_name, duration, region, endpoint_url)

    # --- changes ---------------------------------------------------------------------------------------------

    @property
    def edits(self) -> Edits:
        """The steps that this step inserts and skips, and the workflows that it dispatches."""
        return self.state.edits

    @property
    def inserting(self) -> int:
        """How many steps it inserts or dispatches so far. A tool call of an agent includes the calls before it."""
        return self.state.inserting

    def insert(self, *steps: Any) -> None:
        """Insert steps right after this one, in this order, when it completes. Steps inserted earlier come first.

        Raises:
            InvalidArguments: an argument is no step, or a step has a wrong argument.
            ConfigurationError: the step is being compensated, and no step runs after a compensation.
        """
        self._planning.insert(steps)

    def skip(self, *steps: str) -> None:
        """Leave out steps ahead, by name or id, when this one completes.

        Raises:
            KeyError: no step with this name or id is ahead.
        """
        self._planning.skip(steps)

    def dispatch(
        self,
        *steps: Any,
        variables: Mapping[str, Any] | None = None,
        name: str | None = None,
        deadline: When | None = None,
        budget: Budget | None = None,
        key: str | None = None,
    ) -> str:
        """Dispatch another workflow when this step completes or waits for it, and return its id.

        The id derives from this step and from ``key``; without a key, from how many workflows without a key the step
        dispatched before. So it is one workflow, however often the step runs. If a repeated run passes other steps
        under the same id, the step fails with :class:`~paigeant.IdempotencyConflict`. If a list of workflows may
        change, give each workflow a key.

        The deadline (a time, or seconds from now) is never later than that of this workflow. The steps count as
        inserted by this step, for the workflow's grant. The workflow reserves ``budget`` of this workflow's budget, or
        half of the rest; :meth:`wait_for` returns what it did not use.

        Raises:
            InvalidArguments: no step, an argument that is no step, a wrong argument, or a key that this run has used.
            BudgetExceeded: less is left of the workflow's budget than ``budget``.
        """
        given = variables or {}
        return self._planning.dispatch(steps, variables=given, name=name, deadline=deadline, budget=budget, key=key)

    # --- waits -----------------------------------------------------------------------------------------------

    def sleep(self, seconds: float | None = None, *, until: float | None = None) -> None:
        """Wait for ``seconds``, or until a time in epoch seconds, without holding a process or a message.

        This method and the other waits do not block: they raise. When the wait is over, the activity starts again from
        the top, and the same call returns. The code before it must be safe to run twice, or be a step of its own.
        """
        self._waiting.sleep(seconds, until)

    def await_signal(self, name: str, *, timeout: float | None = None, schema: Any = Any, details: Any = None) -> Any:
        """The value of ``workflow.signal(name, value)`` as ``schema``; the step waits for it as in :meth:`sleep`.

        ``schema`` is a type, or a JSON Schema. While the step waits, the sender of another value gets an error, and
        lists of waiting steps show ``details``, which may be any JSON value.

        Raises:
            SignalTimeout: no signal arrived within ``timeout`` seconds.
            pydantic.ValidationError, InvalidInput: the value arrived before the step waited, and does not match.
        """
        return self._waiting.await_signal(name, timeout, schema, details)

    def await_approval(self, asks: str, *, details: Any = None, timeout: float | None = None) -> Approval:
        """The answer to this question, by ``paigeant approve`` or ``deny``; waits for it as :meth:`sleep` does.

        ``details`` (any JSON value) are shown with the question: the arguments to approve, for example.

        Raises:
            SignalTimeout: nobody answered within ``timeout`` seconds.
        """
        return self._waiting.await_approval(asks, details, timeout)

    def ask(self, which: str, shown: Mapping[str, Any], timeout: float | None = None) -> Approval:
        """The answer to this question. ``which`` identifies it among the questions of the step, even equal ones."""
        return self._waiting.ask(which, shown, timeout)

    def wait_for(self, workflow: str, *, timeout: float | None = None, type: Any = Any) -> Any:  # noqa: A002 - as output()
        """The output of a workflow that this step dispatched, as ``type``; the step waits for it as in :meth:`sleep`.

        Raises:
            ChildFailed: the workflow failed or was cancelled.
            SignalTimeout: it did not end within ``timeout`` seconds.
        """
        return self._waiting.wait_for(workflow, timeout, type)

    def scatter(self, *branches: Any, policy: Policy = "all", deadline: float | None = None) -> list[BranchResult[Any]]:
        """Run these branches side by side, as :func:`paigeant.scatter` does, and wait for them as in :meth:`sleep`.

        Raises:
            InvalidArguments: an argument is no step, or these branches can never satisfy the policy.
            BranchesFailed: fewer branches completed within ``deadline`` seconds than the policy requires.
        """
        return self.gather([self._scattering.slip(one) for one in branches], policy=policy, deadline=deadline)

    def gather(
        self,
        branches: Sequence[RoutingSlip],
        *,
        items: Sequence[Any] | None = None,
        policy: Policy = "all",
        deadline: float | None = None,
    ) -> list[BranchResult[Any]]:
        """The same as :meth:`scatter`, over slips that are already addressed.

        The first step of each branch reads one of ``items`` as the output of the step before it; without ``items``,
        the output that this step reads.
        """
        return self._scattering.gather(branches, items, policy, deadline)

    # --- signs of life ---------------------------------------------------------------------------------------

    @property
    def used(self) -> Usage:
        """The usage of the step's model requests and tool calls, those of earlier runs included."""
        return self.state.used

    @property
    def reported(self) -> Any:
        """The last details that this attempt passed to :meth:`heartbeat`, as JSON types."""
        return self.state.reported

    async def heartbeat(self, details: Any = None) -> None:
        """Report that the step is alive and, with details, its progress.

        ``workflow.events()`` shows the details. The next attempt reads the last ones as :attr:`progress`.

        Raises:
            Superseded: the lease is lost and another worker may be running this step: stop.
            AttemptEnded: the attempt was ended from outside: stop.
        """
        await self._signs.heartbeat(details)

    def heartbeat_sync(self, details: Any = None) -> None:
        """:meth:`heartbeat` for plain functions, which run in a thread. Only this call can end a thread that hangs."""
        self._signs.heartbeat_sync(details)

    def emit(self, value: Any) -> None:
        """Show a value to readers of ``workflow.events()``, immediately; it is not part of the output.

        Works in async and in plain functions, and does not wait. paigeant omits a value that JSON cannot represent,
        that is too large, or that arrives faster than the store records it.
        """
        self._signs.emit(value)

    def stream(self, event: Any) -> None:
        """Show an event of an agent, as JSON types, as :meth:`emit` does; activities of agents do this themselves."""
        self._signs.stream(event)
