# SPDX-License-Identifier: MIT
"""What is lowered, as one value, and the key under which it is remembered what suits it best.

Lowering is `frontend.lowering.driver`'s; what is remembered is in `frontend.lowering.tunings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from codegen.runtime.build import package_version
from codegen.runtime.cache import key_of
from codegen.runtime.cc import machine_identity
from frontend.environment.options import Options
from frontend.lowering.hints import Hints
from polyhedral.ir.layout import Layout
from polyhedral.ir.program import Program
from polyhedral.plans.preferences import Preferences
from polyhedral.text.printer import to_text

SCHEMA = "polyhedral.tuned/1"
_ELSEWHERE = ("threads", "dump", "sizes", "tuned", "cache_dir")
"""Options that change no plan; threads are given apart, as the number that they are."""


@dataclass(frozen=True, eq=False)
class Given:
    """A checked program of known sizes, where its arguments and results lie, what is chosen by the user, and the
    arguments that are the same at every call.
    """

    program: Program
    layouts: Mapping[str, Layout]
    options: Options
    hints: Hints
    constants: frozenset[str]

    def preferring(self, plans: Preferences) -> Given:
        """The same with other plans, whatever was found before."""
        return replace(self, options=replace(self.options, tuned="off"), hints=replace(self.hints, plans=plans))

    @property
    def tunable(self) -> bool:
        """Whether there are plans to choose among: for processors, where no hint chooses loops or layouts."""
        return self.options.language is None and not self.hints

    def key(self, threads: int) -> str:
        """sha256 of all that decides which plan is best: the program, where arrays lie, options, machine, version."""
        layouts = (f"{n} {self.layouts[n].strides}" for n in sorted(self.layouts))
        chosen = (f"{f.name}={getattr(self.options, f.name)!r}" for f in fields(Options) if f.name not in _ELSEWHERE)
        parts = ("\n".join(layouts), "\n".join(chosen), f"threads={threads}", " ".join(sorted(self.constants)))
        return key_of(SCHEMA, package_version(), machine_identity(), to_text(self.program), *parts)
