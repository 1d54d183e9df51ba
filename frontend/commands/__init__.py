# SPDX-License-Identifier: MIT
"""What the command line does: `polyhedral show | explain | run | tune | bench | report | doctor | cache | config`.

`cli` is the door, and loads nothing but the options of commands; each command's work is a module of its own.
"""
