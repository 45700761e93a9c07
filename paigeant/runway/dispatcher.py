"""``WorkflowDispatcher`` of the source documents: collects steps in a draft and dispatches them through an App."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from paigeant.activity import Activity
from paigeant.activity.offering import offer_of
from paigeant.app import App
from paigeant.errors import ConfigurationError, InvalidArguments
from paigeant.records.offer import Offer, merged
from paigeant.runway.draft import Draft
from paigeant.transport import BaseTransport
from paigeant.wire.grant import Allowance, Grant
from paigeant.wire.slip import ActivitySpec, RoutingSlip
from paigeant.wire.values import jsonable

if TYPE_CHECKING:
    from pydantic_ai.agent import AbstractAgent

NAME = "paigeant"
"""Name of the App of a dispatcher without ``app``. It is fixed, so that programs find each other's queues."""


class WorkflowDispatcher:
    """Collects steps on its runway and dispatches them. The first step after a dispatch starts a new draft.

    The dispatcher's agents are activities of its ``app``; by default it creates its own App. ``transport`` is the
    default transport of its dispatches: a transport or a broker's URL. Without it, the settings name the broker.

    Raises:
        ConfigurationError: no transport supports the broker's URL.
    """

    def __init__(self, transport: BaseTransport | str | None = None, *, app: App | None = None) -> None:
        url = transport if isinstance(transport, str) else None
        found = app or App(NAME, broker=url)
        self.app = found.on(transport) if isinstance(transport, BaseTransport) else found
        self._draft = Draft()
        self.registered: dict[str, ActivitySpec] = {}

    @property
    def runway(self) -> list[ActivitySpec]:
        """A copy of the steps of the current draft."""
        return self._draft.steps

    def __repr__(self) -> str:
        return f"<WorkflowDispatcher: {' > '.join(step.name for step in self.runway) or 'empty'}>"

    def add(self, agent: AbstractAgent[Any, Any], made_in: FrameType | None = None) -> Activity[..., Any]:
        """Register a named agent as an activity of the App, unless it is one already.

        Raises:
            DuplicateActivity: another activity has this name.
            ConfigurationError: the agent has no name.
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
        """Append a run of this agent or activity to the draft. A name may belong to an activity of another program.

        Raises:
            ConfigurationError: the agent has no name.
            InvalidArguments: the deps have the wrong type.
            NotSerializable: the deps cannot be serialized as JSON.
        """
        self._draft.add(self._step(what, prompt, deps))

    def register_activity(self, what: Any, prompt: str | None = None, deps: Any = None) -> None:
        """Let agents that may edit their itinerary insert this agent or activity, or an activity with this name.

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
        """Dispatch these activities, or the draft. After this call returns, the broker has the first message.

        A second dispatch without a new step dispatches the same draft again.

        ``activities`` are steps, agents, activities or names. The first argument may be the activities, a transport or
        a broker's URL; its type decides. ``obo_token`` is the token of the user on whose behalf the workflow runs.

        Returns:
            The workflow's correlation id.

        Raises:
            InvalidArguments: there is nothing to dispatch, or an argument is neither a transport nor activities.
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
        if activities is None:
            self._draft.sent()
        app, grant = self._on(transport), self._grant()
        slip = RoutingSlip(itinerary=app.catalog.specs(steps))
        if any(allowance.steps for allowance in grant.allowances.values()):  # agents on any worker read it
            slip = slip.model_copy(update={"registered": app.catalog.specs([*self.registered.values()])})
        return (await app.dispatch(slip, variables=variables, obo_token=obo_token, grant=grant)).correlation_id

    async def offers(self) -> dict[str, Offer]:
        """Return the activities that can be dispatched, by name: those of live workers and those of the App.

        An App that signs leaves out what no worker has signed that may run it.

        Raises:
            StoreError: the store cannot be read.
        """
        app = self.app
        workers = await app.store.workers() if app.store is not None else ()
        there = [offer for worker in workers if worker.alive for offer in worker.offers]
        announced = merged(offer for offer in there if app.notary is None or app.notary.trusts(offer))
        own = {one.name: offer_of(one, app.queue_of(one)) for one in app.activities.values()}
        return {offer.name: offer for offer, _ in announced} | own

    def planned(self, offer: Offer) -> ActivitySpec:
        """Plan a step that runs the offered activity, with the prompt that was registered for it here."""
        registered = self.registered.get(offer.name)
        step = registered if registered is not None else ActivitySpec(name=offer.name)
        return step.model_copy(update={"queue": step.queue or offer.queue})

    async def close(self) -> None:
        """Disconnect. The dispatcher connects again on its next use."""
        for app in self.app.everywhere:
            await app.close()

    def _on(self, transport: BaseTransport | str | None) -> App:
        if isinstance(transport, str):
            from paigeant.transports import get_transport

            transport = get_transport(transport)
        return self.app if transport is None else self.app.on(transport)

    def _grant(self) -> Grant:
        """Return what its agents may insert. The workflow carries it, so that every worker can enforce it."""
        agents = {name: getattr(one, "agent", None) for name, one in self.app.activities.items()}
        allowances = {name: self._allowance(one) for name, one in agents.items() if hasattr(one, "can_edit_itinerary")}
        return Grant(allowances=allowances)

    def _allowance(self, agent: Any) -> Allowance:
        if not agent.can_edit_itinerary:
            return Allowance(steps=0)
        return Allowance(steps=agent.max_added_steps, activities=tuple(self.registered))

    def _known(self, one: Any) -> Any:
        """Return the activity of an agent; anything else unchanged."""
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
