# SPDX-License-Identifier: MIT
"""How one statement runs on a core: register tiles, vectors, the loops around them, and their predicted cycles."""
