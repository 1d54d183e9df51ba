# SPDX-License-Identifier: MIT
"""Stages as objects: Lowered, which shows what became of a program and compiles it.

What runs is in `frontend.stages.executable`; deciding when to make either is `frontend.functions.kernels`'.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from codegen import loops as lp
from frontend.arrays.arguments import is_integer
from frontend.arrays.specs import Spec, dense
from frontend.environment import logs, session
from frontend.environment.options import Options
from frontend.inspection.explain import Explain
from frontend.inspection.plot import Plot, folds
from frontend.lowering import saved
from frontend.lowering.built import Timings
from frontend.lowering.hints import NO_HINTS, Hints
from frontend.pictures.svg import bundle, headed
from frontend.running import loading
from frontend.stages import traced
from frontend.stages.device_executable import DeviceExecutable
from frontend.stages.executable import Executable
from frontend.stages.module import Specialised, module_of
from polyhedral.checks.check import check
from polyhedral.errors import ArgumentError, DimError, Remark
from polyhedral.ir import affine as aff
from polyhedral.ir import expr as ex
from polyhedral.ir import tree as tr
from polyhedral.ir.program import Access, Array, Program, reads
from polyhedral.scheduling.schedule import original


class Lowered(Specialised):
    """A program specialised to sizes and strides, with its schedule, loops and text.

    >>> low = f.lower(X="f32[c:64, y:224, x:224]")                                              # doctest: +SKIP
    >>> low.domains; low.dependences; low.schedule("final"); low.layouts; low.ast; low.compile()   # doctest: +SKIP
    """

    @property
    def domains(self) -> dict[str, str]:
        return {f.shown: f"{{ {', '.join(f.dims)} : {f.domain} }}" for f in self.built.analyzed.frame.families}

    @property
    def accesses(self) -> dict[str, tuple[str, ...]]:
        """Per statement: the write, then the reads."""
        return {
            s.name: (f"writes {s.write}", *(f"reads {Access(r.array, _affine_index(r))}" for r in reads(s)))
            for s in self.program.statements
        }

    @property
    def dependences(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(d) for d in self.built.analyzed.dependences.all))

    def schedule(self, which: str = "final", form: str = "text") -> str:
        """The schedule tree, `initial` (as written) or `final`, with the user's names; or in the form `json`, which
        `ph.hints().schedule(text)` takes, changed or not.
        """
        frame = self.built.analyzed.frame
        tree = original(frame.families) if which == "initial" else self.tree
        if form == "json":
            return json.dumps(saved.to_data(self.program, self.sizes, self.built.scheduled, tree), indent=2)
        return tr.render(tree, {f.id: f.shown for f in frame.families})

    @property
    def tree(self) -> tr.Tree:
        return self.built.scheduled.schedule.tree

    @property
    def ast(self) -> str:
        return lp.render(self.built.loops)

    @property
    def remarks(self) -> tuple[Remark, ...]:
        return (*self.module.checked.remarks, *self.built.scheduled.schedule.remarks)

    @property
    def explain(self) -> Explain:
        """`low.explain.tile("u", t=8, x=64)`: legal?  chosen?  what would change it."""
        return Explain(self)

    @property
    def plot(self) -> Plot:
        """Pictures as SVG: `low.plot.graph()`, `.memory()`, `.layout("X")`, `.schedule()`."""
        return Plot(self.built, self.sizes)

    @property
    def timings(self) -> Timings:
        return self.built.timings

    def ptx(self) -> str:
        """What nvcc makes of the CUDA text; ToolchainError PH525 where there is no nvcc."""
        built = self.built if self.built.source.language == "cuda" else self._for("cuda")
        return loading.compiled_cuda(built, "ptx").path.read_text()

    def compile(self) -> Executable:
        """Native code, from the cache when it was made before."""
        tracing = session.current().tracer is not None
        if self.built.mapped is not None:
            on_device = traced.WatchedOnDevice if tracing else DeviceExecutable
            made: Executable = on_device(self, *loading.load_device(self.built))
        else:
            made = (traced.Watched if tracing else Executable)(self, *loading.load(self.built))
        traced.compiled(self, made)
        return made

    def __repr__(self) -> str:
        return f"<Lowered {self.program.name}: {', '.join(f'{n}={s}' for n, s in self.specs.items())}>"

    def __str__(self) -> str:
        return f"{self.schedule()}\n\n{self.ast}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """A picture of the statements, and all stages in folds."""
        texts = {
            "domains": "\n".join(f"{n}: {d}" for n, d in self.domains.items()),
            "remarks": "\n".join(map(str, self.remarks)) or "none",
            "loops": self.ast,
            "kernels" if self.built.mapped else "C": self.source(self.built.source.language),
        }
        page = headed(repr(self), folds(self.plot, texts, ("statements",)))
        parts = {"text/plain": repr(self), "text/html": page, "image/svg+xml": self.plot.graph().svg}
        return bundle(parts, include, exclude)


def _affine_index(load: ex.Load) -> tuple[tuple[str, aff.Affine], ...]:
    return tuple((d, i if isinstance(i, aff.Affine) else aff.var("<data>")) for d, i in load.index)


def lower(
    program: Program,
    sizes: Mapping[str, int] | None = None,
    options: Options | None = None,
    hints: Hints | None = None,
    **specs: Spec,
) -> Lowered:
    """Check and lower a Program that was built from statement definitions or parsed from text.

    `sizes` fixes sizes by name; arrays are dense in the order of their dims unless a Spec says otherwise.
    """
    start = time.perf_counter()
    if not _is_program(program):
        raise ArgumentError(
            "PH045", f"ph.lower wants a Program, not a {type(program).__name__}", hints=("ph.lower(ph.parse(text))",)
        )
    module = module_of(check(program))
    fixed = dict(sizes or {})
    for n, v in fixed.items():
        if n not in program.sizes:
            raise DimError(
                "PH001", f"{program.name} has no size {n!r}", hints=(f"known: {', '.join(program.sizes) or 'none'}",)
            )
        if not is_integer(v) or v < 0:
            raise ArgumentError("PH047", f"size {n} is {v!r}, not a size", hints=(f"{n}=10",))
        fixed[n] = int(v)
    fixed |= {f"{n}.{d}": v for n, s in specs.items() for d, v in zip(s.axes, s.sizes, strict=True) if v is not None}
    given = {n: specs.get(n) or _dense(module.program.array(n), fixed) for n in module.arguments}
    timings = Timings((("check", time.perf_counter() - start),))
    chosen = NO_HINTS if hints is None else hints
    made = Lowered(module, given, fixed, options or session.current().options(), timings, chosen)
    logs.lowered(made)
    traced.lowered(made)
    return made


def _is_program(given: object) -> bool:
    return isinstance(given, Program)


def _dense(a: Array, sizes: Mapping[str, int]) -> Spec:
    known = [aff.substitute(e, {}, {n: aff.const(v) for n, v in sizes.items()}) for _, e in a.dims]
    return dense(a.dtype, a.dim_names, tuple(e.const if e.is_const else None for e in known))
