# SPDX-License-Identifier: MIT
# pyright: reportIncompleteStub=false
from polyhedral import Dim

def __getattr__(name: str) -> Dim: ...
