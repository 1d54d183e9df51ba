# SPDX-License-Identifier: MIT
"""`POLYHEDRAL_EDIT=1`: generated texts lie where users may edit them, and an edited one is used instead, which is said.

Nothing checks an edited text: the oracle judged the schedule that the generated one came from.  Files are
`codegen.runtime.edited`'s.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from codegen.c import Source
from codegen.runtime.cache import Cache
from codegen.runtime.edited import edited
from polyhedral.errors import Remark

log = logging.getLogger("polyhedral.edit")


def applied(program: str, source: Source, cache: Cache) -> tuple[Source, Path | None, tuple[Remark, ...]]:
    """The source with the text that stands in the place of its own, that place, and what there is to say."""
    found = edited(cache, program, source.text, source.language)
    if found.refused is not None:
        log.warning("%s: the generated text is used: %s", program, found.refused)
        return source, found.path, (Remark("no edited text", found.refused),)
    if not found.changed:
        log.info("%s: its text may be edited in %s", program, found.path)
        return source, found.path, ()
    log.warning("%s: the text edited in %s is used, which nothing checks", program, found.path)
    remark = Remark("an edited text is used, which nothing checks", f"POLYHEDRAL_EDIT is set and {found.path} differs")
    return replace(source, text=found.text), found.path, (remark,)
