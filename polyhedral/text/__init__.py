# SPDX-License-Identifier: MIT
"""Programs as text, read and printed."""
