# SPDX-License-Identifier: MIT
"""A page of HTML without scripts: texts that fold, with their pictures inline.

Everything that comes in as text is escaped here; pictures are taken as they are.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from frontend.pictures.svg import escaped

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"/><title>{title}</title>
<style>:root{{color-scheme:light dark}}body{{font:15px system-ui,sans-serif;margin:2em;max-width:110em}}
pre{{font:13px ui-monospace,monospace;overflow:auto}}
summary{{cursor:pointer;font-weight:600}}details{{margin:.6em 0}}</style>
</head><body><h1>{title}</h1>
{sections}
</body></html>"""


def page(title: str, texts: Mapping[str, str], pictures: Mapping[str, str]) -> str:
    """Collapsible sections, the pictures inline."""
    return _PAGE.format(title=escaped(title), sections=sections(texts, pictures, texts))


def sections(texts: Mapping[str, str], pictures: Mapping[str, str], opened: Container[str]) -> str:
    """A fold for each text, with its picture above it; those in `opened` are open."""
    return "\n".join(
        f"<details{_OPEN if name in opened else ''}><summary>{escaped(name)}</summary>\n"
        f"{pictures.get(name, '')}\n<pre>{escaped(text)}</pre></details>"
        for name, text in texts.items()
    )


_OPEN = ' open="open"'
