# SPDX-License-Identifier: MIT
"""The stages of a call as objects: Module, Lowered, Executable; each shows itself and makes the next.

When to make which is `frontend.functions.kernels`'; the work between them is in the packages below.
"""
