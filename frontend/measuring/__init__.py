# SPDX-License-Identifier: MIT
"""How long something takes, and whether two results agree: turns, duels, records and how these are shown.

Which programs are measured is the caller's.
"""
