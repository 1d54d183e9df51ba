# SPDX-License-Identifier: MIT
"""From a recording to a Program: ranges of dims in rounds, and temporaries where readers need them.

Knows nothing of the language that recorded it, nor of what is generated.
"""
