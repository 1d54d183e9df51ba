# SPDX-License-Identifier: MIT
"""Measurements of whole programs against the machine's ceilings and against other ways to run them.

Nothing in the packages imports this; peers are optional and never needed to run the compiler.
"""
