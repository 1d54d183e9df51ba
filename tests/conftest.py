# SPDX-License-Identifier: MIT
"""One private cache for the whole run: tests neither read nor write the user's."""

import os
import tempfile

os.environ["POLYHEDRAL_CACHE_DIR"] = tempfile.mkdtemp(prefix="polyhedral-tests-")
