# SPDX-License-Identifier: MIT
"""The stub of `import polyhedral as ph` lists every name that the face hands out, and each name resolves.

What type checkers infer from it is theirs to test.
"""

import ast
from pathlib import Path

import polyhedral as ph
from frontend import lang

STUB = Path(ph.__file__).with_suffix(".pyi")


def listed():
    names = set()
    for node in ast.parse(STUB.read_text()).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                names.add(name)
            case ast.ImportFrom():
                names |= {a.asname for a in node.names if a.asname}
    return names


def test_the_stub_lists_every_public_name():
    assert set(ph.__all__) - listed() == set()


def test_the_face_hands_out_the_language():
    offered = set(lang.__all__) & set(ph.__all__)
    assert len(offered) > 60
    assert all(getattr(ph, name) is getattr(lang, name) for name in offered)
