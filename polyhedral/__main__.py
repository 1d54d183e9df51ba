# SPDX-License-Identifier: MIT
"""`python -m polyhedral`: the command line, where the `polyhedral` script is not on the path.

Looked up by name, as the names of the face are, so that the engine does not import what stands above it.
"""

from __future__ import annotations

import sys
from importlib import import_module

if __name__ == "__main__":
    sys.exit(import_module("frontend.commands.cli").main())
