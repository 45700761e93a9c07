from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine must not fail a property: no deadlines; and one failing example is found again in the next run.
settings.register_profile("paigeant", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("paigeant")
