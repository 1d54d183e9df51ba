# SPDX-License-Identifier: MIT
"""What a lowered program can be asked: what it costs, why it is as it is, what it looks like.

Nothing is decided or measured here.
"""
