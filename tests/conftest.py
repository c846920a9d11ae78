"""Settings that hold for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Wall-clock limits of the generator say how busy the machine is, not how good the code is.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")
