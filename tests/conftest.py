"""Shared by all tests."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("default", deadline=None)  # machines that build packages are slow and busy
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True)  # a verdict, not a lottery
settings.load_profile("ci" if os.environ.get("CI") else "default")
