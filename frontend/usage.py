# SPDX-License-Identifier: MIT
"""The error of a wrong command line: exit code 2.

Errors of programs are in `polyhedral.errors`.
"""


class UsageError(Exception):
    """The command line itself is wrong; the message says what to write."""
