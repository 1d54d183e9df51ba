# SPDX-License-Identifier: MIT
"""What users touch: the language, the boundary to arrays of other libraries, the driver and the command line.

Owns no representation of programs of its own; that is `polyhedral.ir.program`.
"""
