# SPDX-License-Identifier: MIT
"""Completion scripts: static text, so that a shell need not start Python at every key.

The words are those of `frontend.commands.cli`; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from frontend.usage import UsageError

GLOBAL = (
    "--json",
    "--quiet",
    "--verbose",
    "--color",
    "--progress",
    "--size",
    "--dtype",
    "--target",
    "--cache-dir",
    "--version",
    "--help",
)
WORDS: Mapping[str, tuple[str, ...]] = {
    "show": ("--stage", "--before", "--after", "--diff", "--statement", "--format", "--output", "--schedule"),
    "explain": ("fuse", "tile", "parallel", "vectorize", "bounds", "layout", "why", "--at"),
    "run": ("--random", "--npz", "--output", "--check", "--seed", "--schedule"),
    "tune": ("--budget", "--trials", "--jobs", "--executor", "--hosts", "--resume", "--seed", "--threads", "--db"),
    "bench": (
        "capsule",
        "conv",
        "gemm",
        "other",
        "all",
        "--vs",
        "--threads",
        "--seconds",
        "--flush",
        "--small",
        "--output",
        "--compare",
        "--fail-over",
        "--roofline",
        "--bars",
        "--list",
    ),
    "report": ("--output",),
    "doctor": ("--measure", "--fix"),
    "cache": ("ls", "stat", "clear", "export", "import"),
    "config": ("get", "set", "path"),
    "completion": ("bash", "zsh", "fish", "powershell"),
}


def script(shell: str) -> str:
    """The script for one shell."""
    makers: Mapping[str, Callable[[], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish, "powershell": _powershell}
    if shell not in makers:
        raise UsageError(f"completion {shell}: shells are {', '.join(makers)}")
    return makers[shell]()


def _cases(indent: str) -> str:
    return "\n".join(f'{indent}{c}) words="{" ".join((*w, *GLOBAL))}" ;;' for c, w in WORDS.items())


def _bash() -> str:
    return f"""_polyhedral() {{
  local words="{" ".join((*WORDS, *GLOBAL))}" w
  for w in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$w" in
{_cases("      ")}
    esac
  done
  COMPREPLY=($(compgen -f -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _polyhedral polyhedral"""


def _zsh() -> str:
    return f"""#compdef polyhedral
_polyhedral() {{
  local words_="{" ".join((*WORDS, *GLOBAL))}" w
  for w in "${{(@)words[2,CURRENT-1]}}"; do
    case "$w" in
{_cases("      ").replace("words=", "words_=")}
    esac
  done
  compadd -- ${{=words_}}
  _files
}}
compdef _polyhedral polyhedral"""


def _fish() -> str:
    lines = [f"complete -c polyhedral -n __fish_use_subcommand -a '{' '.join(WORDS)}'"]
    lines += [f"complete -c polyhedral -l {g.removeprefix('--')}" for g in GLOBAL]
    for command, words in WORDS.items():
        when = f"-n '__fish_seen_subcommand_from {command}'"
        plain = [w for w in words if not w.startswith("--")]
        lines += [f"complete -c polyhedral {when} -a '{' '.join(plain)}'"] if plain else []
        lines += [f"complete -c polyhedral {when} -l {w.removeprefix('--')}" for w in words if w.startswith("--")]
    return "\n".join(lines)


def _powershell() -> str:
    def array(words: tuple[str, ...]) -> str:
        return "@(" + ", ".join(f"'{w}'" for w in words) + ")"

    table = "\n".join(f"    '{c}' = {array((*w, *GLOBAL))}" for c, w in WORDS.items())
    return f"""Register-ArgumentCompleter -Native -CommandName polyhedral -ScriptBlock {{
  param($wordToComplete, $commandAst, $cursorPosition)
  $table = @{{
{table}
  }}
  $words = {array((*WORDS, *GLOBAL))}
  foreach ($e in $commandAst.CommandElements) {{ if ($table.ContainsKey("$e")) {{ $words = $table["$e"] }} }}
  $words | Where-Object {{ $_ -like "$wordToComplete*" }} | ForEach-Object {{
    [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
  }}
}}"""
