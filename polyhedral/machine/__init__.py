# SPDX-License-Identifier: MIT
"""The machine in numbers."""
