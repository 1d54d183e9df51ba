# SPDX-License-Identifier: MIT
"""From text to results: native code is loaded, given memory, and started; a wrong index is found.

When a call may start is `frontend.stages`' to check.
"""
