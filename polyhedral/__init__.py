# SPDX-License-Identifier: MIT
"""Programs over named dimensions, scheduled with integer sets and compiled at run time.

`import polyhedral as ph` is the face of the whole: names of the front end are looked up on first use (PEP 562), so that
the engine below never imports what stands above it.

Glossary
    domain            the set of instances of a statement, one integer point each
    access relation   which cell of an array an instance reads or writes
    dependence        a pair of instances that meet in a cell and must keep their order
    family            all instances of one statement, or of its initialisation
    schedule tree     bands, sequences and filters that give every instance its time
    band              schedule dimensions that belong together; permutable: any order of its members is legal
    coincident        no dependence crosses the member within its band, so its iterations may run at once
    tile, point       the two bands that tiling makes of one; full tiles have no partial iterations
    wavefront         a diagonal of a permutable band that carries all its dependences
    kept, reduced     the dims of a reduction that its result has, and those it sums over
    layout            the map from an array's named index to an address
    live-in           values a statement reads that no statement of the program defines
"""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import Any

from polyhedral.errors import AttributeProblem

_LANGUAGE = (
    "abs", "acos", "asin", "assume", "atan", "atan2", "bf16", "bool", "bool_", "c128", "c64", "ceil", "clip", "Cond",
    "conj", "const", "cos", "cosh", "current", "Dim", "dims", "e", "erf", "exp", "exp2", "expm1", "Expr", "f16", "f32",
    "f64", "f8e4m3", "f8e5m2", "floor", "fresh", "hypot", "i16", "i32", "i64", "i8", "Index", "inf", "inside", "isinf",
    "isnan", "let", "log", "log1p", "log2", "loop", "maximum", "minimum", "nan", "Ordered", "orelse", "over", "pi",
    "relu", "round", "Scalar", "scan", "sequential", "sigmoid", "sin", "sinh", "Size", "softmax", "sqrt", "tan",
    "tanh", "Tensor", "trunc", "u16", "u32", "u64", "u8", "var", "when", "where",
)  # fmt: skip
_ERRORS = (
    "ArgumentError", "AttributeProblem", "BoundsError", "DimError", "DomainError", "DtypeError", "InternalError",
    "LegalityError", "OrderError", "PolyhedralError", "Remark", "SyntaxProblem", "ToolchainError", "Unsupported",
    "UserError",
)  # fmt: skip
_HOMES = {
    **dict.fromkeys(_LANGUAGE, "frontend.lang"),
    **dict.fromkeys(_ERRORS, "polyhedral.errors"),
    **dict.fromkeys(("function", "Function"), "frontend.functions.function"),
    **dict.fromkeys(("grad", "jvp", "stop_gradient", "value_and_grad", "vjp"), "frontend.functions.gradients"),
    **dict.fromkeys(("symbolic",), "frontend.arrays.arguments"),
    **dict.fromkeys(("array",), "frontend.arrays.incoming"),
    **dict.fromkeys(("Array",), "frontend.arrays.named"),
    **dict.fromkeys(("options", "Options"), "frontend.environment.options"),
    **dict.fromkeys(("hints", "Hints"), "frontend.lowering.hints"),
    **dict.fromkeys(("lower", "Lowered"), "frontend.stages.lowered"),
    **dict.fromkeys(("Executable",), "frontend.stages.executable"),
    **dict.fromkeys(("Tuned",), "frontend.tuning.tuned"),
    **dict.fromkeys(("parse",), "polyhedral.text.reader"),
    **dict.fromkeys(("to_text",), "polyhedral.text.printer"),
    **dict.fromkeys(("statement", "build"), "polyhedral.text.definitions"),
    **dict.fromkeys(("interpret",), "polyhedral.ir.interpreter"),
    **dict.fromkeys(("check",), "polyhedral.checks.check"),
    **dict.fromkeys(("Program", "Statement", "Domain", "Range", "Access", "Role"), "polyhedral.ir.program"),
}
_MODULES = {"library": "frontend.library"}
_SPELLED = {"interpret": "run", "build": "program"}
__all__ = sorted({*_HOMES, *_MODULES})  # pyright: ignore[reportUnsupportedDunderAll]  the stub beside this file lists them


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = import_module(_MODULES[name])
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), _SPELLED.get(name, name))
    elif name.startswith("_"):
        raise AttributeError(f"module 'polyhedral' has no attribute {name!r}")
    else:
        near = get_close_matches(name, __all__, 1)
        hint = f"write ph.{near[0]}" if near else "dir(ph) lists what there is; sums and products are methods: X.sum(k)"
        guess = f". Did you mean {near[0]!r}?" if near else ""
        raise AttributeProblem("PH009", f"module 'polyhedral' has no attribute {name!r}{guess}", hints=(hint,))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """What users are meant to see: not what this file imports for itself."""
    return sorted({*(n for n in globals() if n.startswith("__")), *_HOMES, *_MODULES})
