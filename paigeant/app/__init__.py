"""The App. It has three parts: its declarations, its connections and its dispatch methods."""

from __future__ import annotations

from paigeant.app.app import App as App

__all__ = ["App"]
