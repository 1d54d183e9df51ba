# SPDX-License-Identifier: MIT
"""What goes in and comes out: arrays of any library under named dims, their specs, their memory.

Knows nothing of schedules and kernels.
"""
