# SPDX-License-Identifier: MIT
"""What surrounds a program: options and where they come from, logs, traces, the process's compiler and cache.

Nothing else reads environment variables, but for the command line.
"""
