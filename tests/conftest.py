# SPDX-License-Identifier: MIT
"""One private cache for the whole run: tests neither read nor write the user's.  No test is timed."""

import os
import tempfile

from hypothesis import settings

os.environ["POLYHEDRAL_CACHE_DIR"] = tempfile.mkdtemp(prefix="polyhedral-tests-")
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
