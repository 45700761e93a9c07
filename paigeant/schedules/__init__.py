"""Periodic work of an App: its schedules, their timetables, and the deletion of old workflows."""

from __future__ import annotations

from paigeant.schedules.schedule import Schedule, Schedules, takes_time
from paigeant.schedules.timetable import Timetable

__all__ = ["Schedule", "Schedules", "Timetable", "takes_time"]
