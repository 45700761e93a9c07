"""``ActivityExecutor`` of the source documents: a worker for one activity."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from types import ModuleType
from typing import Any

from paigeant.app import App
from paigeant.context import ActivityContext
from paigeant.errors import AppNotFound, ConfigurationError
from paigeant.runtime.nearest import did_you_mean
from paigeant.runway.dispatcher import NAME, WorkflowDispatcher
from paigeant.runway.modules import app_of, apps_in, imported, loose_agents
from paigeant.transport import BaseTransport
from paigeant.wire.handed import HandedMessage
from paigeant.worker import Worker

Handler = Callable[[Any], Awaitable[None]]
"""Runs a step by hand: it receives a :class:`HandedMessage` and marks its step complete."""

Place = str | ModuleType | App | WorkflowDispatcher | Handler
"""Where the executor finds its activity."""


class ActivityExecutor:
    """A worker for one activity, which is an agent, a function or a handler.

    ``agent_path`` says where the activity is: the name of a module, a module, an App or a dispatcher; by default the
    program itself. It may also be a handler: an async function that receives the message and marks the step complete.
    ``transport`` is a transport or a broker's URL. All other options are those of :class:`paigeant.Worker`.

    Raises:
        AppNotFound: there is no such module, or no such activity in it.
    """

    def __init__(
        self, transport: BaseTransport | str, agent_name: str, agent_path: Place | None = None, **options: Any
    ) -> None:
        if isinstance(transport, str):
            from paigeant.transports import get_transport

            transport = get_transport(transport)
        self.app = _app_with(agent_name, agent_path).on(transport)
        self.worker = Worker(self.app, only=[agent_name], **options)

    async def start(self) -> None:
        """Serve until :meth:`stop`.

        Raises:
            TransportError, StoreError: broker or store cannot be reached at the start.
        """
        await self.worker.run()

    def stop(self) -> None:
        """Stop the worker. The first call lets running steps finish; the second releases their messages at once."""
        self.worker.stop()


def _app_with(name: str, place: Place | None) -> App:
    match place:
        case App() | WorkflowDispatcher():
            app = app_of(place)
            return _having(name, [app] if app is not None else [], repr(place))
        case str() | ModuleType() | None:
            module = imported(place) if isinstance(place, str) else place or sys.modules["__main__"]
            return _having(name, [*apps_in(module).values(), *loose_agents(module)], module.__name__)
        case _:
            return _app_of_handler(name, place)


def _having(name: str, apps: Sequence[App], where: str) -> App:
    for app in apps:
        if name in app.activities:
            return app
    known = sorted({activity for app in apps for activity in app.activities})
    hint = did_you_mean(name, known, f"it has: {', '.join(known) or 'none'}")
    raise AppNotFound(f"there is no activity {name!r} in {where}", hint=hint)


def _app_of_handler(name: str, handler: Handler) -> App:
    app = App(NAME)

    async def run(ctx: ActivityContext) -> Any:
        message = HandedMessage(ctx.message, ctx.variables)
        await handler(message)
        if message.error is not None:
            raise message.error
        if not message.routing_slip.is_advanced:
            raise ConfigurationError(
                f"the handler of {name!r} returned and did not complete its step",
                hint=f"call message.routing_slip.mark_complete({name!r}) or message.fail(error), or raise an error",
            )
        return message.routing_slip.output

    app.activity(name=name)(run)
    return app
