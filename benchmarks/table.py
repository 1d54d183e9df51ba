# SPDX-License-Identifier: MIT
"""`python -m benchmarks.table results.jsonl`: records of a benchmark as a table in the terminal.

The table is that of `polyhedral bench`; nothing is measured.
"""

from __future__ import annotations

import sys
from pathlib import Path

from frontend.measuring.ledger import load
from frontend.measuring.tables import show

if __name__ == "__main__":
    for file in sys.argv[1:]:
        show(load(Path(file)))
