# SPDX-License-Identifier: MIT
"""What a person may ask about a program: is this legal, and if not, what would make it so."""
