# SPDX-License-Identifier: MIT
"""What is decided for the program as a whole: layouts, what is stored, what shares loops, and memory."""
