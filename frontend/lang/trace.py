# SPDX-License-Identifier: MIT
"""A trace: run a plain function on its tensors, and what the function wrote becomes a Recording.

Naming and ordering the arrays at a call's boundary is left to `frontend.stages`; inference comes in as `settle`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from frontend.lang.handles import Dim, Expr, Size, Tensor
from frontend.lang.location import Mark, here, locate
from frontend.lang.recorder import Recorder, Settle
from frontend.lang.statements import constant
from frontend.lang.value import Value, lift, of_affine
from frontend.recorded import Recording, Reduction
from polyhedral.errors import ArgumentError
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir.dtypes import DType
from polyhedral.ir.program import Array, Role

Returned = str | tuple["Returned", ...] | dict[str, "Returned"] | None
"""What a function returned, each value replaced by the name of the array that holds it."""


class Trace(Recorder):
    """Records while it is entered: `with trace: result = f(trace.argument("X", "c y x", f32)); trace.finish(result)`.

    `returned` afterwards mirrors the function's result.
    """

    def __init__(self, name: str, *, settle: Settle, mark: Mark | None = None) -> None:
        super().__init__(name, settle, mark)
        self.returned: Returned = None

    # arguments ------------------------------------------------------------------------------------------------------

    def argument(
        self,
        name: str,
        dims: str | tuple[str, ...],
        dtype: DType,
        role: Role = Role.INPUT,
        lifted: tuple[str, ...] = (),
    ) -> Tensor:
        """An argument array; its extents are the sizes `X.c`.  `lifted` names the dims that the caller added."""
        names = tuple(Dim(d).name for d in (dims.split() if isinstance(dims, str) else dims))
        if len(set(names)) != len(names):
            raise ArgumentError(
                "PH040",
                f"{name} is declared '{' '.join(names)}': a dimension is named twice",
                hints=(f"a matrix has two dimensions, for example '{names[0]} {names[0]}2'",),
                location=here(),
            )
        self.unique(name)
        sizes = [f"{name}.{d}" for d in names]
        self.sizes += sizes
        self.lifted[name] = frozenset(lifted)
        extents = tuple((d, aff.size(s)) for d, s in zip(names, sizes, strict=True))
        return Tensor(self.add_array(Array(name, extents, dtype, role)))

    def size_argument(self, name: str) -> Size:
        """An argument annotated `ph.Size`."""
        self.sizes.append(self.unique(name))
        return Size(of_affine(aff.size(name), owner=self.owner))

    def scalar_argument(self, name: str, dtype: DType) -> Tensor:
        """An argument annotated `ph.Scalar[...]`: an input array without dims."""
        return self.argument(name, (), dtype)

    def constant_argument(self, name: str, array: object, dims: str) -> Tensor:
        """An argument bound to data that becomes part of the program."""
        return constant(self, name, array, dims)

    # results --------------------------------------------------------------------------------------------------------

    def finish(self, returned: object = None) -> Recording:
        """Turn the returned expressions into outputs; call it while the trace is still entered."""
        self.returned = self._output(returned, "out")
        if not any(a.role in (Role.OUTPUT, Role.INOUT) for a in self.arrays.values()):
            raise ArgumentError(
                "PH040",
                f"{self.name} returns nothing and updates no argument",
                hints=("return the result: return (A * B).sum(k)", 'or declare what is updated: inout="A"'),
                location=here(),
            )
        return self._pruned()

    def _output(self, result: object, label: str) -> Returned:
        if result is None:
            return None
        if isinstance(result, Mapping):
            named = cast("Mapping[object, object]", result)
            for k in named:
                if not isinstance(k, str):
                    raise ArgumentError(
                        "PH040",
                        f"{self.name} returns a dict with the key {k!r}; results are named by strings",
                        hints=("return {'mean': X.mean(x), 'top': X.max(x)}",),
                        location=here(),
                    )
            return {str(k): self._output(v, str(k) if str(k).isidentifier() else "out") for k, v in named.items()}
        if isinstance(result, tuple | list):
            several = cast("Sequence[object]", result)
            return tuple(self._output(v, f"{label}{n}") for n, v in enumerate(several))
        value = lift(result)
        if value is None:
            raise ArgumentError(
                "PH040",
                f"{self.name} returns a {type(result).__name__}; a result is a tensor, an expression or a number",
                hints=("return an expression such as (A * B).sum(k), a tuple or a dict of such",),
                location=here(),
            )
        at = locate(result.origin) if isinstance(result, Expr) else here()
        return self._adopted(value) or self.let(value, label, {}, Role.OUTPUT, at)

    def _adopted(self, value: Value) -> str | None:
        """The name of a whole array that can itself be the result: a let or variable not yet given, or an inout."""
        array = self.arrays.get(value.node.array) if isinstance(value.node, ex.Load) else None
        if array is None or value.spans or value.node != self.read(array.name).node:
            return None
        if array.role is Role.TEMPORARY:
            self.arrays[array.name] = replace(array, role=Role.OUTPUT)
            return array.name
        return array.name if array.role is Role.INOUT else None

    def _pruned(self) -> Recording:
        """The recording without definitions that no statement reads."""
        recording = self.snapshot()
        used: set[str] = set()
        waiting = [s.value for s, _ in recording.statements]
        while waiting:
            for load in ex.loads(waiting.pop()):
                definition = self.definitions.get(load.array)
                if definition is None or definition.name in used:
                    continue
                used.add(definition.name)
                if isinstance(definition, Reduction):
                    waiting.append(definition.body)
        return replace(recording, definitions=tuple(d for d in recording.definitions if d.name in used))
