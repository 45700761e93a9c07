"""``Depends``: values made for each step by providers, with clean-up. The work is FastDepends'."""

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
    """The providers of one activity's parameters, overridable through the App's :class:`Provider`."""

    def __init__(self, dependants: dict[str, Dependant], overrides: Provider) -> None:
        self._overrides = overrides
        self._models = {
            name: _model(dependant.dependency, overrides, use_cache=dependant.use_cache)
            for name, dependant in dependants.items()
        }

    async def solve(self, context: ActivityContext, stack: AsyncExitStack) -> dict[str, Any]:
        """Call the providers, each once per step; generators are closed with the stack."""
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
    """Use another provider until the context ends, however it ends; then the one before."""
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
    """``is_sync=False``: a plain provider may use asynchronous ones, since we always solve in a loop."""
    return build_call_model(
        call, dependency_provider=overrides, use_cache=use_cache, is_sync=False, serializer_cls=None
    )


def _context_arguments(model: CallModel, context: ActivityContext) -> dict[str, Any]:
    """A provider gets the context by annotation, like an activity does."""
    return {item.field_name: context for item in model.flat_params if takes_context(item.field_type)}
