from __future__ import annotations

from hypothesis import settings

# Nothing in a test is timed: the machine may be busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
