# SPDX-License-Identifier: MIT
"""From mapped schedule trees to text, and from text to something that runs.

Decides nothing about order or layout: that is settled in `polyhedral`, and users meet it through `frontend`.
"""
