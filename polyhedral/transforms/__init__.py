# SPDX-License-Identifier: MIT
"""Tree to tree: one transform a file, each the library function that a schedule or a hint calls."""
