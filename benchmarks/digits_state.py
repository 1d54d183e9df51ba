# SPDX-License-Identifier: MIT
"""What a training run is made of between two steps, and its checkpoint: a file that is whole or not there.

States are values, so that whatever interrupts a step leaves the one before.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from frontend.usage import UsageError

SCHEMA = "polyhedral.digits/1"


@dataclass(frozen=True)
class State:
    """All weights and Adam's moments of them; the loss of every step so far, the held-out accuracy of every epoch."""

    weights: np.ndarray
    first: np.ndarray
    second: np.ndarray
    losses: np.ndarray
    accuracies: np.ndarray

    @property
    def step(self) -> int:
        return len(self.losses)


def beginning(weights: np.ndarray) -> State:
    """Before the first step."""
    still = np.zeros_like(weights)
    return State(weights, still, still, np.empty(0, np.float32), np.empty(0, np.float64))


def save(path: Path, state: State, settings: Mapping[str, object]) -> None:
    """UsageError where it cannot be written; an older checkpoint stays until the new one is whole."""
    content = BytesIO()
    np.savez(content, settings=np.array(json.dumps({"schema": SCHEMA, **settings})), **vars(state))
    temporary = None
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(fd, "wb") as f:
            f.write(content.getvalue())
            f.flush()
            os.fsync(f.fileno())
        Path(temporary).replace(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def load(path: Path, settings: Mapping[str, object]) -> State:
    """The state of a run with these settings.  UsageError where there is none, and where it had others."""
    try:
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as held:
            said = dict(json.loads(str(held["settings"])))
            if said.pop("schema") != SCHEMA:
                raise ValueError("of another format")
            state = State(**{n: held[n] for n in State.__dataclass_fields__})
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        raise UsageError(f"{path} is no checkpoint of this command") from None
    other = [f"--{n} {said.get(n)}" for n, value in settings.items() if said.get(n) != value]
    if other:
        raise UsageError(
            f"{path} was begun with {' '.join(other)}; go on with the same, or write to another --checkpoint"
        )
    return state
