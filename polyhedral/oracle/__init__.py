# SPDX-License-Identifier: MIT
"""Judges of schedules, which share nothing with what made them."""
