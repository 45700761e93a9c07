"""Celery as the benchmarks set it up: acknowledged late, results in Redis, nothing beside the work."""

from __future__ import annotations

from typing import Any

from celery import Celery

from benchmarks.place import Place


def make_celery(name: str, broker: str, place: Place, **options: Any) -> Celery:
    """An app whose tasks are in the place's own queue."""
    app = Celery(name, broker=broker, backend=place.redis)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        task_default_queue=place.prefix,
        task_acks_late=True,
        task_acks_on_failure_or_timeout=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        result_expires=3600,
        **options,
    )
    return app
