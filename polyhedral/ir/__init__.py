# SPDX-License-Identifier: MIT
"""What a program is and what it means: arrays, statements, expressions, layouts and trees, and the interpreter."""
