"""The dispatcher of the documents: a draft of a workflow, and the App behind it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from paigeant.activity import Activity
from paigeant.activity.offering import offer_of
from paigeant.app import App
from paigeant.errors import ConfigurationError, InvalidArguments
from paigeant.grant import Allowance, Grant
from paigeant.offer import Offer, merged
from paigeant.slip import ActivitySpec
from paigeant.transport import BaseTransport
from paigeant.values import jsonable

if TYPE_CHECKING:
    from pydantic_ai.agent import AbstractAgent

NAME = "paigeant"
"""The App behind a dispatcher that is given none: one name, so that programs find each other's queues."""


class WorkflowDispatcher:
    """Lines up steps on its runway, and sends a copy of them on their way as often as it is told to.

    Behind it is an ``app``, by default one of its own, whose activities its agents are. ``transport`` is what carries
    the messages where dispatching names no other: a transport or a broker's URL; default: that of the settings.

    Raises:
        ConfigurationError: a broker that nothing here knows.
    """

    def __init__(self, transport: BaseTransport | str | None = None, *, app: App | None = None) -> None:
        url = transport if isinstance(transport, str) else None
        found = app or App(NAME, broker=url)
        self.app = found.on(transport) if isinstance(transport, BaseTransport) else found
        self.runway: list[ActivitySpec] = []
        self.registered: dict[str, ActivitySpec] = {}

    def __repr__(self) -> str:
        return f"<WorkflowDispatcher: {' > '.join(step.name for step in self.runway) or 'empty'}>"

    def add(self, agent: AbstractAgent[Any, Any], made_in: FrameType | None = None) -> Activity[..., Any]:
        """Make an agent that has a name an activity of the App, if it is none yet.

        Raises:
            DuplicateActivity: another has this name.
            ConfigurationError: it has no name.
        """
        for known in self.app.activities.values():
            if getattr(known, "agent", None) is agent:
                return known
        if not agent.name:
            raise ConfigurationError("the agent has no name", hint='PaigeantAgent(..., name="writer")')
        if made_in is not None:
            self.app.source_files.add(made_in.f_code.co_filename)
        return self.app.activity(agent, name=agent.name)

    def add_to_runway(self, what: Any, prompt: str | None = None, deps: Any = None) -> None:
        """Append a run of this agent or activity, or of what has this name elsewhere, to the draft.

        Raises:
            ConfigurationError: an agent without a name.
            InvalidArguments: wrong deps.
            NotSerializable: the deps cannot be written as JSON.
        """
        self.runway.append(self._step(what, prompt, deps))

    def register_activity(self, what: Any, prompt: str | None = None, deps: Any = None) -> None:
        """Let agents that may edit their itinerary insert this agent or activity, or what has this name elsewhere.

        Raises:
            ConfigurationError, InvalidArguments, NotSerializable: as :meth:`add_to_runway`.
        """
        step = self._step(what, prompt, deps)
        self.registered[step.name] = step

    async def dispatch_workflow(
        self,
        *given: BaseTransport | str | Sequence[Any],
        activities: Iterable[Any] | None = None,
        transport: BaseTransport | str | None = None,
        variables: Mapping[str, Any] | None = None,
        obo_token: str | None = None,
    ) -> str:
        """Send a workflow on its way: these activities, or the draft; when this returns, the broker has it.

        ``activities`` are steps, agents, activities or names. They may also be the first argument, as may a transport
        or a broker's URL: the type tells which it is. ``obo_token`` is the token of the user on whose behalf it runs.

        Returns:
            The workflow's correlation id.

        Raises:
            InvalidArguments: nothing to dispatch, or something that is neither a transport nor activities.
            ConfigurationError, TransportError, StoreError: as :meth:`paigeant.App.dispatch`.
        """
        for one in given:
            if isinstance(one, BaseTransport | str):
                transport = one
            elif isinstance(one, Iterable):
                activities = one
            else:
                raise InvalidArguments(
                    f"{one!r} is neither a transport nor a list of activities",
                    hint="await dispatcher.dispatch_workflow(transport), or dispatch_workflow([first, second])",
                )
        steps = self.runway if activities is None else [self._known(one) for one in activities]
        if not steps:
            raise InvalidArguments(
                "there is nothing to dispatch", hint="agent.add_to_runway(prompt=...), or activities=[...]"
            )
        workflow = self._on(transport).dispatch(*steps, variables=variables, obo_token=obo_token, grant=self._grant())
        return (await workflow).correlation_id

    async def offers(self) -> dict[str, Offer]:
        """What can be dispatched, by name: announced by live workers, or an activity of the App here.

        Raises:
            StoreError: the store cannot be read.
        """
        app = self.app
        workers = await app.store.workers() if app.store is not None else ()
        announced = merged(offer for worker in workers if worker.alive for offer in worker.offers)
        own = {one.name: offer_of(one, app.queue_of(one)) for one in app.activities.values()}
        return {offer.name: offer for offer, _ in announced} | own

    def planned(self, offer: Offer) -> ActivitySpec:
        """A step that runs what is offered, with the prompt it was registered with here."""
        registered = self.registered.get(offer.name)
        step = registered if registered is not None else ActivitySpec(name=offer.name)
        return step.model_copy(update={"queue": step.queue or offer.queue})

    async def close(self) -> None:
        """Disconnect; using the dispatcher again connects again."""
        for app in self.app.everywhere:
            await app.close()

    def _on(self, transport: BaseTransport | str | None) -> App:
        if isinstance(transport, str):
            from paigeant.transports import get_transport

            transport = get_transport(transport)
        return self.app if transport is None else self.app.on(transport)

    def _grant(self) -> Grant:
        """What its agents may insert travels with the workflow, so that every worker holds them to it."""
        agents = {name: getattr(one, "agent", None) for name, one in self.app.activities.items()}
        allowances = {name: self._allowance(one) for name, one in agents.items() if hasattr(one, "can_edit_itinerary")}
        return Grant(allowances=allowances)

    def _allowance(self, agent: Any) -> Allowance:
        if not agent.can_edit_itinerary:
            return Allowance(steps=0)
        return Allowance(steps=agent.max_added_steps, activities=tuple(self.registered))

    def _known(self, one: Any) -> Any:
        """What the App understands: of an agent, the activity it is."""
        is_agent = hasattr(one, "run") and not isinstance(one, str | ActivitySpec | Activity)
        return self.add(one) if is_agent else one

    def _step(self, what: Any, prompt: str | None, deps: Any) -> ActivitySpec:
        known = self._known(what)
        known = self.app.activities.get(known, known) if isinstance(known, str) else known
        if isinstance(known, str):
            return ActivitySpec(name=known, prompt=prompt, deps=jsonable(deps, f"the deps of {known!r}"))
        if isinstance(known, ActivitySpec):
            changes = {"prompt": prompt or known.prompt, "deps": known.deps if deps is None else jsonable(deps)}
            return known.model_copy(update=changes)
        return known.step(**{name: value for name, value in (("prompt", prompt), ("deps", deps)) if value is not None})
