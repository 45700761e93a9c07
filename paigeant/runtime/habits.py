"""What users of other task queues write out of habit, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping

OF_ACTIVITIES: Mapping[str, str] = {
    **dict.fromkeys(
        ("delay", "apply_async", "apply", "send", "kiq", "defer"),
        "app.dispatch({called}.step(...)) dispatches a workflow",
    ),
    **dict.fromkeys(("s", "si", "subtask"), "{called}.step(...) is one step of a workflow, for app.dispatch(...)"),
}
"""For each attribute that tasks of Celery, dramatiq, taskiq or procrastinate have: what to write with an activity."""

OF_APPS: Mapping[str, str] = {
    **dict.fromkeys(("task", "actor"), "decorate the function with @app.activity"),
    **dict.fromkeys(("send_task", "apply_async", "delay", "enqueue"), 'app.dispatch("name") dispatches by name'),
    "AsyncResult": "app.workflow(id) is the handle of a workflow",
    "worker_main": "paigeant worker -A MODULE starts a worker",
    "start": "paigeant worker -A MODULE starts a worker, and Worker(app).run() one in this program",
    "conf": "app.settings has the settings",
}
"""The same for attributes of their apps."""

OF_THE_PACKAGE: Mapping[str, str] = {
    "Celery": "App is what holds activities",
    "task": "app = App(...), then decorate the function with @app.activity",
    "shared_task": "app = App(...), then decorate the function with @app.activity",
    "chain": "app.dispatch(first.step(...), second) runs steps one after the other",
    "group": "scatter(first.step(...), second.step(...)) runs steps side by side",
    "chord": "app.dispatch(scatter(first, second), last) runs the last step with what the branches returned",
    "signature": "activity.step(...) is one step of a workflow",
}
"""The same for names that their packages have."""


def no_attribute(owner: object, name: str, of: str, habits: Mapping[str, str], called: str = "") -> AttributeError:
    """The error for an attribute that ``owner`` does not have; for one of these habits it says what to write.

    ``of`` is what the owner is called, ``called`` the function of an activity.
    """
    instead = f": {habits[name].format(called=called)}" if name in habits else ""
    return AttributeError(f"{of} has no attribute {name!r}{instead}", name=name, obj=owner)
