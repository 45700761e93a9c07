"""What is dispatched again and again: when it is due, and who dispatches it."""

from __future__ import annotations

from paigeant.schedules.schedule import Schedule, Schedules, takes_time
from paigeant.schedules.timetable import Timetable

__all__ = ["Schedule", "Schedules", "Timetable", "takes_time"]
