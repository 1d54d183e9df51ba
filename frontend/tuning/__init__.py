# SPDX-License-Identifier: MIT
"""Which plan is the fastest, found by trying: in which order, where they are compiled, and what was found.

Who is faster is `frontend.measuring`'s to say; what is kept on disk is `frontend.lowering.tunings`'.
"""
