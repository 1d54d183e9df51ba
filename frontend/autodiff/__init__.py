# SPDX-License-Identifier: MIT
"""Differentiation of programs, Program to Program: every adjoint is a gather over the inverse of an access.

`resolve` defines the arrays that a trace promised; what a user asks for is recorded by `frontend.lang`.
"""

from frontend.autodiff.resolve import Resolved, resolve

__all__ = ["Resolved", "resolve"]
