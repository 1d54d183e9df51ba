# SPDX-License-Identifier: MIT
"""Program to Program: rewrites that keep the meaning (the interpreter agrees before and after), one idea a file."""
