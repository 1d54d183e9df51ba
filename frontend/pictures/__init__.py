# SPDX-License-Identifier: MIT
"""Pictures as text: trees, statement graphs, layouts and lives of memory as SVG and DOT.

What is worth drawing is decided above.
"""
