# SPDX-License-Identifier: MIT
"""The same computation in other libraries, to measure against: whole arrays in NumPy, PyTorch and JAX.

A form is made from the program; how contestants take turns is `frontend.measuring`'s.
"""
