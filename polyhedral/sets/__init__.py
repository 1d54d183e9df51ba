# SPDX-License-Identifier: MIT
"""Integer sets and relations: the doors to isl, and what is asked of it about a program."""
