# SPDX-License-Identifier: MIT
"""The command line: `polyhedral show | explain | run | tune | bench | report | doctor | cache | config | completion`.

Each command's work is in a module that is imported only when the command runs, so that the tool starts at once; errors
are shown by `frontend.commands.failures`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from frontend.commands.bench_options import bench
from frontend.commands.failures import INTERRUPTED, MISSING, NO, OK, USAGE, tell
from frontend.commands.general import Global, hoisted, out
from frontend.commands.report_options import report
from frontend.commands.tune_options import tune

_EPILOG = (
    "Targets are pkg.mod:fn, file.py:fn or prog.poly.  Options of `polyhedral -h` may stand before or after a command."
)
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
cache = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Compiled kernels kept on disk.")
config = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Options in [tool.polyhedral] of pyproject.toml."
)
app.add_typer(cache, name="cache")
app.add_typer(config, name="config")


@app.callback()
def _globals(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="More progress on stderr.")] = 0,
    color: Annotated[str, typer.Option(help="auto, always or never.")] = "auto",
    progress: Annotated[str, typer.Option(help="auto, plain or none.")] = "auto",
    size: Annotated[
        list[str] | None, typer.Option("--size", "-s", metavar="NAME=INT", help="X.y=224, y=16 or b=sym.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Element type of the arguments, such as f32.")] = None,
    target: Annotated[str | None, typer.Option(help="cpu, opencl, cuda or cuda:sm_90.")] = None,
    cache_dir: Annotated[str | None, typer.Option(help="Where compiled kernels are kept.")] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Programs over named dimensions, scheduled with integer sets and compiled to C."""
    for name, value, known in (
        ("--color", color, ("auto", "always", "never")),
        ("--progress", progress, ("auto", "plain", "none")),
    ):
        if value not in known:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(known)}", param_hint=name)
    now: Global = context.obj
    now.json, now.quiet, now.verbose, now.color = as_json, quiet or progress == "none", verbose, color
    now.progress = progress
    now.dtype, now.target, now.cache_dir, now.sizes = dtype, target, cache_dir, {}
    if size:
        now.sizes = dict(map(import_module("frontend.commands.targets").size_of, size))
    if verbose:
        logging.basicConfig(
            stream=sys.stderr, format="%(name)s: %(message)s", level=logging.DEBUG if verbose > 1 else logging.INFO
        )


# --- commands --------------------------------------------------------------------------------------------------------

_Target = Annotated[str, typer.Argument(metavar="TARGET", help="pkg.mod:fn, file.py:fn or prog.poly")]


def _lowered(given: Global, target: str, schedule: Path | None = None) -> Any:
    targets = import_module("frontend.commands.targets")
    if schedule is None:
        low = targets.lowered(targets.load(target), given.sizes, given.dtype)
    else:
        low = targets.in_order(targets.load(target), given.sizes, given.dtype, schedule)
    if given.verbose:
        given.say(str(low.timings))
    return low


@app.command(epilog=_EPILOG)
def show(
    context: typer.Context,
    target: _Target,
    stage: Annotated[
        str,
        typer.Option(
            help="domains, accesses, deps, graph, schedule, tiled, memory, layout, ast, c, asm (several: a,b) or all."
        ),
    ] = "schedule",
    before: Annotated[bool, typer.Option("--before", help="The order as written.")] = False,
    after: Annotated[bool, typer.Option("--after", help="The order chosen (the default).")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Both orders of the schedule, as a diff.")] = False,
    statement: Annotated[
        str | None, typer.Option(help="Only this statement (or the one that writes this array).")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text, json, isl, dot, svg or html.")] = "text",
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="A file, or a folder that gets one file a stage.")
    ] = None,
    schedule: Annotated[
        Path | None, typer.Option(help="Take this order, which --stage schedule --format json -o FILE wrote.")
    ] = None,
) -> None:
    """Print the stages of a compilation."""
    if before + after + diff > 1:
        raise typer.BadParameter("choose one of --before, --after and --diff")
    module = import_module("frontend.commands.show")
    stages = module.stages_of(stage)
    with context.obj.options():
        low = _lowered(context.obj, target, schedule)
        when = "before" if before else "diff" if diff else "after"
        if low.built.editable is not None:
            context.obj.say(f"the text may be edited in {low.built.editable}")
        parts = module.show(low, stages, "json" if context.obj.json else form, when, statement)
    out(module.write(parts, "json" if context.obj.json else form, output))


@app.command(epilog=_EPILOG)
def explain(
    context: typer.Context,
    target: _Target,
    question: Annotated[
        str,
        typer.Argument(
            help="fuse S S | tile S t=8,x=64 | parallel DIM | vectorize DIM | bounds S | layout T ORDER | why [slow|S]"
        ),
    ],
    words: Annotated[list[str] | None, typer.Argument(metavar="[WORDS]...")] = None,
    at: Annotated[str | None, typer.Option(help="For fuse: the dims of the shared loops, such as y,x.")] = None,
) -> None:
    """Ask why, or why not: legal?  chosen?  what would change it.  Exit code 3 when it is not legal."""
    with context.obj.options():
        low = _lowered(context.obj, target)
        answer = import_module("frontend.commands.ask").ask(low, question, words or [], at)
    out(json.dumps(answer.to_json(), indent=2) if context.obj.json else str(answer))
    raise typer.Exit(OK if answer else NO)


@app.command(epilog=_EPILOG)
def run(
    context: typer.Context,
    target: _Target,
    random: Annotated[bool, typer.Option("--random", help="Random inputs (the default).")] = False,
    npz: Annotated[Path | None, typer.Option(help="Inputs by name from an .npz file.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the results to an .npz file.")] = None,
    check: Annotated[str | None, typer.Option(help="numpy: hold the results against the interpreter.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random inputs.")] = 0,
    schedule: Annotated[Path | None, typer.Option(help="Run in this order, as of show --schedule.")] = None,
) -> None:
    """Compile and run once, with times; exit code 3 when --check finds a mismatch."""
    if random and npz is not None:
        raise typer.BadParameter("choose one of --random and --npz")
    if check not in (None, "numpy"):
        raise typer.BadParameter(f"{check!r} is not numpy", param_hint="--check")
    execute = import_module("frontend.commands.run")
    with context.obj.options():
        result = execute.run(target, context.obj, npz, output, check is not None, seed, schedule)
    out(json.dumps(result.to_json(), indent=2) if context.obj.json else str(result))
    raise typer.Exit(OK if result.agrees is not False else NO)


app.command(epilog=_EPILOG)(tune)
app.command(epilog=_EPILOG)(bench)
app.command("report")(report)


@app.command()
def doctor(
    context: typer.Context,
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure what a cycle does, for plans; kept in the cache folder.")
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Set right what needs no one else: cache, leftovers, measuring.")
    ] = False,
) -> None:
    """What this machine offers, and what to do about what it lacks; exit code 4 when there is no C compiler."""
    with context.obj.options():
        doctor = import_module("frontend.commands.doctor")
        repairs = doctor.repairs(os.environ, context.obj.cache_dir) if fix else ()
        findings = doctor.findings(os.environ, context.obj.cache_dir, measure, fix)
    if context.obj.json:
        parts = {"findings": findings, **({"repairs": repairs} if fix else {})}
        data = {n: [p.to_json() for p in every] for n, every in parts.items()}
        out(json.dumps({"schema": "polyhedral.doctor/1", **data}, indent=2))
    else:
        out("\n".join(map(str, (*repairs, *findings))))
    missing = any(f.name == "C compiler" and not f.ok for f in findings)
    raise typer.Exit(MISSING if missing else OK)


@cache.command("ls")
def cache_ls(context: typer.Context) -> None:
    """List the entries."""
    _upkeep(context, "ls")


@cache.command("stat")
def cache_stat(context: typer.Context) -> None:
    """Where it is, how many entries, how large."""
    _upkeep(context, "stat")


@cache.command("clear")
def cache_clear(context: typer.Context) -> None:
    """Remove every entry."""
    _upkeep(context, "clear")


@cache.command("export")
def cache_export(context: typer.Context, file: Annotated[Path, typer.Argument(help="A tar file to write.")]) -> None:
    """Write every entry to a tar file."""
    _upkeep(context, "export", file)


@cache.command("import")
def cache_import(
    context: typer.Context, file: Annotated[Path, typer.Argument(help="A tar file that export wrote.")]
) -> None:
    """Take over the entries of a tar file; import only what you trust, its kernels will run."""
    _upkeep(context, "import", file)


@config.command("get")
def config_get(context: typer.Context, name: Annotated[str | None, typer.Argument()] = None) -> None:
    """Print the options in force, or one."""
    _upkeep(context, "get", name)


@config.command("set")
def config_set(context: typer.Context, name: str, value: str) -> None:
    """Write an option to [tool.polyhedral] of the nearest pyproject.toml."""
    _upkeep(context, "set", name, value)


@config.command("path")
def config_path(context: typer.Context) -> None:
    """Print the pyproject.toml that is read here."""
    _upkeep(context, "path")


@app.command()
def completion(shell: Annotated[str, typer.Argument(help="bash, zsh, fish or powershell")]) -> None:
    """Print a completion script for a shell."""
    out(import_module("frontend.commands.completion").script(shell))


def _upkeep(context: typer.Context, what: str, *words: Any) -> None:
    upkeep = import_module("frontend.commands.upkeep")
    with context.obj.options():
        result = upkeep.COMMANDS[what](*words)
    out(json.dumps({"schema": f"polyhedral.{what}/1", **result.data}, indent=2) if context.obj.json else result.text)


# --- the way in and out -------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit code (the console script hands it to the shell)."""
    typed = sys.argv[1:] if arguments is None else arguments
    words = hoisted(typed)
    if "--version" in words:
        out(f"polyhedral-loops {metadata.version('polyhedral-loops')}")
        return OK
    given = Global(json="--json" in words, words=tuple(typed), own_process=arguments is None)
    try:
        app(words, prog_name="polyhedral", obj=given)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else OK if stop.code is None else USAGE
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        return tell(error, given)
    return OK


if __name__ == "__main__":
    sys.exit(main())
