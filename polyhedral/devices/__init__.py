# SPDX-License-Identifier: MIT
"""How statements run on blocks of threads."""
