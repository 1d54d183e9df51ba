# SPDX-License-Identifier: MIT
"""From plans and dependences to a schedule tree."""
