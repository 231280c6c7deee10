"""How properties are tried: the same examples in each run of CI, and no limit of time for one on a busy machine."""

from __future__ import annotations

from hypothesis import settings
from processes import IN_CI

settings.register_profile("edge-agent", deadline=None, derandomize=IN_CI)
settings.load_profile("edge-agent")
