"""``Depends``: providers create values for each step and clean up after it. FastDepends does the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from fast_depends import Depends, Provider
from fast_depends.core import CallModel, build_call_model
from fast_depends.dependencies import Dependant

from paigeant.context import ActivityContext, takes_context

__all__ = ["Depends", "Provider", "Providers", "overridden"]


class Providers:
    """The providers of one activity's parameters. The App's :class:`Provider` can override them."""

    def __init__(self, dependants: dict[str, Dependant], overrides: Provider) -> None:
        self._overrides = overrides
        self._models = {
            name: _model(dependant.dependency, overrides, use_cache=dependant.use_cache)
            for name, dependant in dependants.items()
        }

    async def solve(self, context: ActivityContext, stack: AsyncExitStack) -> dict[str, Any]:
        """Call each provider once per step and return the values; the stack closes generators."""
        cache: dict[Any, Any] = {}
        values = {}
        for name, model in self._models.items():
            current = self._overrides.overrides.get(model.call, model)
            values[name] = await current.asolve(
                stack=stack, cache_dependencies=cache, nested=True, **_context_arguments(current, context)
            )
        return values


@contextmanager
def overridden(overrides: Provider, provider: Callable[..., Any], replacement: Callable[..., Any]) -> Iterator[None]:
    """Use another provider until the context ends, then restore the previous one, even after an error."""
    before = overrides.overrides.get(provider)
    overrides.overrides[provider] = _model(replacement, overrides)
    try:
        yield
    finally:
        if before is None:
            del overrides.overrides[provider]
        else:
            overrides.overrides[provider] = before


def _model(call: Callable[..., Any], overrides: Provider, *, use_cache: bool = True) -> CallModel:
    """Build FastDepends' model of a provider.

    ``is_sync=False`` lets a plain provider use asynchronous ones, because an event loop always runs here.
    """
    return build_call_model(
        call, dependency_provider=overrides, use_cache=use_cache, is_sync=False, serializer_cls=None
    )


def _context_arguments(model: CallModel, context: ActivityContext) -> dict[str, Any]:
    """Return the context for each parameter annotated with it, as for an activity."""
    return {item.field_name: context for item in model.flat_params if takes_context(item.field_type)}
