# SPDX-License-Identifier: MIT
"""From a Program to text, as users, files and earlier tuning want it: hints, what is remembered, the driver.

Schedules are made in `polyhedral`, text in `codegen`; what is native is `frontend.running`'s.
"""
