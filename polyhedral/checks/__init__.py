# SPDX-License-Identifier: MIT
"""What every Program must hold before anything is decided about it."""
