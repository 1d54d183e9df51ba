# SPDX-License-Identifier: MIT
"""Artefacts: driving compilers, the private cache of what they made, and calling it.

Sees source text and bytes only; what a kernel means and how it was scheduled is decided above.
"""
