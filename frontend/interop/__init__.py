# SPDX-License-Identifier: MIT
"""Functions inside other array libraries: operators of theirs that run our kernels, with derivatives and batches.

`boundary` says what any of them needs to know of a function; `torch` and `jax` say it in that library's words.
"""

from frontend.interop.boundary import Boundary, boundary
from frontend.interop.jax import jax_function
from frontend.interop.torch import torch_function

__all__ = ["Boundary", "boundary", "jax_function", "torch_function"]
