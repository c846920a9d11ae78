"""Settings that hold for every test."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Wall-clock limits of the generator say how busy the machine is, not how good the code is.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# In CI a run is a verdict on the change, not a search: the same examples each time.
settings.register_profile("ci", parent=settings.get_profile("house"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "house")
