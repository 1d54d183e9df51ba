# SPDX-License-Identifier: MIT
from polyhedral import Dim

def __getattr__(name: str) -> Dim: ...
