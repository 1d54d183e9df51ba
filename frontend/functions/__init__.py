# SPDX-License-Identifier: MIT
"""What users call: functions over named tensors, their derivatives, and which kernel is for which arguments.

A function needs the language alone; what follows is loaded at its first call.
"""
