# SPDX-License-Identifier: MIT
"""Wrong calls, declarations, options, whole programs and program texts, each with the class and code of its error.

Wrong lines inside a program are in `test_bad_inputs`.
"""
# fmt: off

import numpy as np
import pytest

import polyhedral as ph
from polyhedral.dim import i, j, k, kx, t, x, y


def f4(*shape):
    return np.ones(shape, "f4")


def strided(*given):
    return np.lib.stride_tricks.as_strided(*given)


@ph.function(A="i k", B="k j")
def mm(A, B):
    return (A * B).sum(k)


@ph.function(A="i k", B="k j", returns="i j")
def mmr(A, B):
    return (A * B).sum(k)


@ph.function(u="x", v="x", inout="u")
def add(u, v):
    u[...] += v


@ph.function(X="x")
def steps(X, n: ph.Size, a: ph.Scalar[ph.f32] = 1):
    return (X * a).over(x=n)


@ph.function(T="v d", n="s")
def take(T, n):
    return T(v=n)


@ph.function(X="x", W="kx")
def conv(X, W):
    return (X[x + kx] * W).over(x=6).sum(kx)


def fn(f, inout=(), returns=None, **axes):
    return ph.function(**axes, inout=inout, returns=returns)(f)


def whole(f, **axes):
    return ph.function(**axes)(f).trace()


def var(define, **sizes):
    def program(X):
        u = ph.var("u", like=X, **sizes)
        define(u, X)
        return u

    return ph.function(X="x")(program).trace()


def update(change, axes="y x"):
    def program(u):
        change(u)

    return ph.function(u=axes, inout="u")(program).trace()


def eq(place, value):
    place[...] = value


def loops(n):
    def program(u):
        with ph.loop(x, x):
            u[...] = n

    return ph.function(u="x", inout="u")(program).trace()


def with_options(**chosen):
    with ph.options(**chosen):
        return mm(f4(2, 3), f4(3, 2))


P = "program p\n  sizes N\n  input X: f32[x: N]\n  output Y: f32[x: N]\n"
S = "  S: for x < N:\n    Y = "


def text(body):
    return ph.check(ph.parse(P + body))


WRONG = [
    ("ArgumentError PH045", lambda: mm(f4(2,3))),
    ("ArgumentError PH045", lambda: mm()),
    ("ArgumentError PH045", lambda: mm(f4(2,3),f4(3,2),f4(1,1))),
    ("ArgumentError PH045", lambda: mm(f4(2,3),f4(3,2),C=1)),
    ("ArgumentError PH045", lambda: mm(f4(2,3),A=f4(2,3))),
    ("DimError PH010", lambda: mm(f4(2,3),f4(4,2))),
    ("ArgumentError PH040", lambda: mm(f4(2,3,4),f4(3,2))),
    ("ArgumentError PH040", lambda: mm(f4(2),f4(3,2))),
    ("ArgumentError PH040", lambda: mm(3,f4(3,2))),
    ("ArgumentError PH316", lambda: mm(None,f4(3,2))),
    ("ArgumentError PH316", lambda: mm("A",f4(3,2))),
    ("DtypeError PH304", lambda: mm([["a"]],f4(1,2))),
    ("ArgumentError PH316", lambda: mm([[1],[1,2]],f4(1,2))),
    ("DtypeError PH303", lambda: mm(f4(2,3).astype(">f4"),f4(3,2))),
    ("DtypeError PH304", lambda: mm(f4(2,3).astype("M8[s]"),f4(3,2))),
    ("DtypeError PH304", lambda: mm(f4(2,3).astype(object),f4(3,2))),
    ("DtypeError PH304", lambda: mm(f4(2,3).astype("S3"),f4(3,2))),
    ("DtypeError PH304", lambda: mm(np.ones((2,3),np.longdouble),f4(3,2))),
    ("ArgumentError PH315", lambda: mm(np.ma.masked_array(f4(2,3)),f4(3,2))),
    ("DtypeError PH301", lambda: mm(np.ones((2,3),'f2'), ph.array(np.ones((3,2),'u2').view(ph.bf16.numpy),"k j"))),
    ("ArgumentError PH316", lambda: mm(object(),f4(3,2))),
    ("ArgumentError PH316", lambda: mm({},f4(3,2))),
    ("DtypeError PH304", lambda: mm(np.zeros((2,3),dtype=[("a","f4")]),f4(3,2))),
    ("ArgumentError PH040", lambda: ph.array(f4(2,3),"i")),
    ("DimError PH006", lambda: ph.array(f4(2,3),"i i")),
    ("DimError PH007", lambda: ph.array(f4(2,3),"i lambda")),
    ("DimError PH007", lambda: ph.array(f4(2,3),"i 3")),
    ("DimError PH007", lambda: ph.array(f4(2,3),3)),
    ("ArgumentError PH040", lambda: ph.array(f4(2,3),None)),
    ("ArgumentError PH040", lambda: ph.array(f4(2,3))),
    ("ArgumentError PH316", lambda: ph.array(None,"i")),
    ("ArgumentError PH316", lambda: ph.array("abc","i")),
    ("DimError PH008", lambda: ph.array(ph.array(f4(2),"i"),"j")),
    ("OrderError PH043", lambda: mm(f4(2,3),f4(3,2)).order("i")),
    ("OrderError PH043", lambda: mm(f4(2,3),f4(3,2)).order("i j k")),
    ("OrderError PH043", lambda: mm(f4(2,3),f4(3,2)).order("i jj")),
    ("DimError PH006", lambda: mm(f4(2,3),f4(3,2)).order("i i")),
    ("DimError PH007", lambda: mm(f4(2,3),f4(3,2)).order(3)),
    ("OrderError PH043", lambda: mm(f4(2,3),f4(3,2)).order()),
    ("DimError PH001", lambda: mm(f4(2,3),f4(3,2)).size("q")),
    ("OrderError PH041", lambda: np.asarray(mm(f4(2,3),f4(3,2)))),
    ("DimError PH042", lambda: float(mm(f4(2,3),f4(3,2)))),
    ("DimError PH042", lambda: bool(mm(f4(2,3),f4(3,2)))),
    ("DimError PH042", lambda: mm(f4(2,3),f4(3,2)).item()),
    ("OrderError PH041", lambda: mm(f4(2,3),f4(3,2),out=f4(2,2))),
    ("ArgumentError PH318", lambda: mm(f4(2,3),f4(3,2),out=ph.array(f4(2,3),"i j"))),
    ("DimError PH008", lambda: mm(f4(2,3),f4(3,2),out=ph.array(f4(2,2),"i k"))),
    ("DtypeError PH304", lambda: mm(f4(2,3),f4(3,2),out=ph.array(f4(2,2).astype('f8'),"i j"))),
    ("ArgumentError PH317", lambda: mm(f4(2,3),f4(3,2),out=(f4(2,2),f4(2,2)))),
    ("ArgumentError PH317", lambda: mm(f4(2,3),f4(3,2),out=[])),
    ("ArgumentError PH316", lambda: mm(f4(2,3),f4(3,2),out="x")),
    ("ArgumentError PH316", lambda: mm(f4(2,3),f4(3,2),out=3)),
    ("ArgumentError PH317", lambda: mm(f4(2,3),f4(3,2),out=[[1,2],[3,4]])),
    ("ArgumentError PH316", lambda: mm(f4(2,3),f4(3,2),out={"x":f4(2,2)})),
    ("ArgumentError PH312", lambda: mmr(f4(2,3),f4(3,2),out=np.broadcast_to(f4(2),(2,2)))),
    ("ArgumentError PH313", lambda: mmr(f4(2,3),f4(3,2),out=strided(f4(2),(2,2),(0,4)))),
    ("ArgumentError PH313", lambda: mmr(f4(2,3),f4(3,2),out=strided(f4(4),(2,2),(4,4)))),
    ("DtypeError PH304", lambda: mmr(f4(2,3),f4(3,2),out=np.ones((2,2),'f8'))),
    ("DtypeError PH303", lambda: mmr(f4(2,3),f4(3,2),out=np.ones((2,2),'>f4'))),
    ("ArgumentError PH318", lambda: mmr(f4(2,3),f4(3,2),out=f4(2,3))),
    ("ArgumentError PH040", lambda: mmr(f4(2,3),f4(3,2),out=f4(4))),
    ("ArgumentError PH311", lambda: (lambda a: mmr(a,f4(3,3),out=a))(f4(3,3))),
    ("ArgumentError PH311", lambda: (lambda a: mmr(a[:3],f4(3,3),out=a[1:]))(f4(4,3))),
    ("ArgumentError PH311", lambda: (lambda a: add(a,a))(f4(4))),
    ("ArgumentError PH311", lambda: (lambda a: add(a[1:],a[:-1]))(f4(5))),
    ("ArgumentError PH311", lambda: (lambda a: add(a,a[::-1]))(f4(5))),
    ("ArgumentError PH312", lambda: add(np.broadcast_to(np.float32(1),(4,)),f4(4))),
    ("ArgumentError PH313", lambda: add(strided(f4(1),(4,),(0,)),f4(4))),
    ("DtypeError PH303", lambda: add(f4(4).astype('>f4'),f4(4))),
    ("ArgumentError PH312", lambda: add([1.0,2.0],f4(2))),
    ("DimError PH010", lambda: add(f4(4),f4(5))),
    ("DtypeError PH301", lambda: add(f4(4),np.ones(4,'c8'))),
    ("ArgumentError PH047", lambda: steps(f4(9),-1)),
    ("ArgumentError PH047", lambda: steps(f4(9),2.5)),
    ("ArgumentError PH047", lambda: steps(f4(9),"3")),
    ("ArgumentError PH047", lambda: steps(f4(9),None)),
    ("ArgumentError PH047", lambda: steps(f4(9),True)),
    ("ArgumentError PH047", lambda: steps(f4(9),np.ones(2))),
    ("BoundsError PH102", lambda: steps(f4(9),10)),
    ("ArgumentError PH048", lambda: steps(f4(9),3,"a")),
    ("ArgumentError PH048", lambda: steps(f4(9),3,f4(2))),
    ("ArgumentError PH048", lambda: steps(f4(9),3,1j)),
    ("ArgumentError PH048", lambda: steps(f4(9),3,None)),
    ("ArgumentError PH045", lambda: steps(f4(9))),
    ("BoundsError PH103", lambda: take(f4(3,2),np.array([0,3]))),
    ("BoundsError PH103", lambda: take(f4(3,2),np.array([-1,0]))),
    ("DimError PH030", lambda: take(f4(3,2),np.array([0.5]))),
    ("DimError PH030", lambda: take(f4(3,2),np.array([True]))),
    ("BoundsError PH102", lambda: conv(f4(7),f4(3))),
    ("BoundsError PH102", lambda: conv(f4(3),f4(3))),
    ("ArgumentError PH045", lambda: fn(lambda A: A, B="i")),
    ("ArgumentError PH040", lambda: mm(ph.array(f4(2,3),"i kk"),f4(3,2))),
    ("ArgumentError PH040", lambda: mm.lower(A="f32[i:4, kk:3]")),
    ("ArgumentError PH040", lambda: fn(lambda A: None, A="i")(f4(2))),
    ("DimError PH006", lambda: fn(lambda A: A, A="i i")),
    ("DimError PH007", lambda: fn(lambda A: A, A="i 3")),
    ("DimError PH007", lambda: fn(lambda A: A, A=3)),
    ("ArgumentError PH045", lambda: fn(lambda A: A, A="i", inout="B")),
    ("DimError PH007", lambda: fn(lambda A: A, A="i", inout=3)),
    ("OrderError PH043", lambda: fn(lambda A: A, A="i j", returns="i k").trace()),
    ("OrderError PH043", lambda: fn(lambda A: A*1, A="i j", returns="i")(f4(2,2))),
    ("ArgumentError PH319", lambda: fn(lambda A: A*1, A="i j", returns=("i j","i j"))(f4(2,2))),
    ("DimError PH006", lambda: fn(lambda A: A*1, A="i j", returns="i i")),
    ("DimError PH007", lambda: fn(lambda A: A*1, A="i j", returns=3)),
    ("ArgumentError PH045", lambda: fn(lambda *A: A, A="i")(f4(2))),
    ("ArgumentError PH045", lambda: fn(lambda A, **k: A*1, A="i")(f4(2))),
    ("ArgumentError PH040", lambda: fn(lambda A: "x", A="i")(f4(2))),
    ("ArgumentError PH040", lambda: fn(lambda A: {1: A*1, "1": A*2}, A="i")(f4(2))),
    ("ArgumentError PH040", lambda: fn(lambda A: object(), A="i")(f4(2))),
    ("ArgumentError PH040", lambda: fn(lambda A: np.ones(3), A="i")(f4(2))),
    ("DomainError PH110", lambda: fn(lambda A: x, A="i")(f4(2))),
    ("DimError PH042", lambda: fn(lambda A: A == 1, A="i")(f4(2)) and 1),
    ("ArgumentError PH045", lambda: ph.function(3)),
    ("ArgumentError PH045", lambda: ph.function(X="x")(3)),
    ("ArgumentError PH045", lambda: mm.bind(C=1)),
    ("ArgumentError PH040", lambda: mm.bind(A=f4(3))),
    ("ArgumentError PH316", lambda: mm.bind(A="x")),
    ("ArgumentError PH044", lambda: mm.lower(A="f32[i:4")),
    ("ArgumentError PH044", lambda: mm.lower(A="f99[i, k]")),
    ("ArgumentError PH044", lambda: mm.lower(A="f32[i:-4, k]")),
    ("ArgumentError PH044", lambda: mm.lower(A="f32[i:4.5, k]")),
    ("ArgumentError PH044", lambda: mm.lower(A="")),
    ("ArgumentError PH044", lambda: mm.lower(A="f32[i i]")),
    ("ArgumentError PH040", lambda: mm.lower(A="f32[i, i]")),
    ("ArgumentError PH044", lambda: mm.lower(A="f32[i, k", B="f32")),
    ("DimError PH010", lambda: mm.lower(A="f32[k:3, i:2]", B="f32[k:4, j:2]")),
    ("ArgumentError PH045", lambda: mm.lower(C="f32[i]")),
    ("ArgumentError PH040", lambda: mm.lower(3)),
    ("DimError PH006", lambda: mm.lower(A="f32[i:4, lambda:3]")),
    ("ArgumentError PH047", lambda: mm.lower(sizes={"i": "a"})),
    ("ArgumentError PH047", lambda: mm.lower(sizes={"i": -3})),
    ("DimError PH001", lambda: mm.lower(sizes={"zz": 3})),
    ("ArgumentError PH047", lambda: mm.lower(sizes={"i": 2.5})),
    ("ArgumentError PH047", lambda: mm.lower(sizes=3)),
    ("ArgumentError PH505", lambda: mm.lower(target="tpu")),
    ("ArgumentError PH506", lambda: mm.lower(threads=0)),
    ("ArgumentError PH506", lambda: mm.lower(threads="many")),
    ("ArgumentError PH506", lambda: mm.lower(tile=-5)),
    ("ArgumentError PH506", lambda: mm.lower(tile="a")),
    ("DimError PH010", lambda: mm.lower(f4(2,3), f4(4,2))),
    ("ArgumentError PH045", lambda: mm.lower(f4(2,3), f4(3,2), f4(3,2))),
    ("ArgumentError PH046", lambda: mm.lower(A=f4(2,3), B=f4(3,2)).compile()(f4(2,3), f4(4,2))),
    ("ArgumentError PH045", lambda: mm.lower(A=f4(2,3), B=f4(3,2)).compile()(f4(2,3))),
    ("ArgumentError PH045", lambda: mm.lower(A=f4(2,3), B=f4(3,2)).compile()(f4(2,3), f4(3,2), f4(3,2))),
    ("ArgumentError PH046", lambda: mm.lower(A=f4(2,3), B=f4(3,2)).compile()(f4(2,3), f4(3,2).astype('f8'))),
    ("ArgumentError PH045", lambda: mm.lower(A=f4(2,3), B=f4(3,2)).compile()(f4(2,3), f4(3,2), C=3)),
    ("ArgumentError PH046", lambda: mm.lower(A=f4(2,3), B=f4(3,2)).compile()(f4(2,3), ph.array(f4(3,2),"k q"))),
    ("ArgumentError PH505", lambda: mm.lower(A=f4(2,3), B=f4(3,2)).compile().source("fortran")),
    ("ArgumentError PH506", lambda: ph.options(thread=1).__enter__()),
    ("ArgumentError PH506", lambda: with_options(threads=0)),
    ("ArgumentError PH506", lambda: with_options(threads=-1)),
    ("ArgumentError PH506", lambda: with_options(threads="x")),
    ("ArgumentError PH505", lambda: with_options(target="vulkan")),
    ("ArgumentError PH506", lambda: with_options(sizes="maybe")),
    ("ArgumentError PH506", lambda: with_options(tile=1.5)),
    ("ArgumentError PH506", lambda: with_options(checked="yes")),
    ("ArgumentError PH506", lambda: with_options(dump=3)),
    ("ArgumentError PH506", lambda: with_options(plan_above="x")),
    ("BoundsError PH101", lambda: whole(lambda X: X + X[x+1], X="x")),
    ("BoundsError PH101", lambda: whole(lambda X: X(x=-1), X="x")),
    ("BoundsError PH101", lambda: whole(lambda X: X(x=X.size(x)), X="x")),
    ("BoundsError PH101", lambda: whole(lambda X: X[x+1].over(x=X.size(x)), X="x")),
    ("DomainError PH120", lambda: whole(lambda X: X.over(x=(1,5)), X="x")),
    ("DomainError PH111", lambda: whole(lambda X: X(x=i+j), X="x")),
    ("DomainError PH110", lambda: whole(lambda X: X * 0 + i, X="x")),
    ("DomainError PH110", lambda: whole(lambda X: X.sum(x) + i, X="x")),
    ("DomainError PH112", lambda: whole(lambda X: X[x-1], X="x")),
    ("BoundsError PH101", lambda: whole(lambda X: X(x=x+1, y=y) + X(x=y, y=x), X="x y")),
    ("DtypeError PH301", lambda: fn(lambda X: X < X, X="x")(np.ones(3,'c8'))),
    ("DtypeError PH301", lambda: fn(lambda X: X.max(x), X="x")(np.ones(3,'c8'))),
    ("DtypeError PH301", lambda: fn(lambda X: X // 2, X="x")(np.ones(3,'c8'))),
    ("DtypeError PH301", lambda: fn(lambda X: ph.floor(X), X="x")(np.ones(3,'c8'))),
    ("DtypeError PH301", lambda: fn(lambda X: ph.atan2(X, X), X="x")(np.ones(3,'c8'))),
    ("DtypeError PH301", lambda: fn(lambda X: X.argmax(x), X="x")(np.ones(3,'c8'))),
    ("DimError PH030", lambda: fn(lambda X: X + 2**70, X="x")(np.ones(3,'i4'))),
    ("DimError PH030", lambda: fn(lambda X: X(x=2**70), X="x")(np.ones(3,'i4'))),
    ("DtypeError PH301", lambda: fn(lambda X: X + 1000, X="x")(np.ones(3,'i1'))),
    ("DomainError PH120", lambda: var(lambda u, X: eq(u(t=0), X), t=3)),
    ("DomainError PH120", lambda: var(lambda u, X: eq(u[t+1], u), t=3)),
    ("DomainError PH122", lambda: var(lambda u, X: (eq(u(t=0), X), eq(u, u)), t=3)),
    ("DomainError PH121", lambda: var(lambda u, X: (eq(u(t=0), X), eq(u(t=0), 2*X)), t=1)),
    ("BoundsError PH101", lambda: var(lambda u, X: (eq(u(t=0), X), eq(u[t+1], u[x-1])), t=3)),
    ("BoundsError PH101", lambda: var(lambda u, X: (eq(u(t=0), X), eq(u[t+1], u[x-1]+u[x+1])), t=3)),
    ("BoundsError PH101", lambda: var(lambda u, X: eq(u(t=5), X), t=3)),
    ("DomainError PH120", lambda: var(lambda u, X: eq(u(x=0), X(x=0)))),
    ("DimError PH002", lambda: var(lambda u, X: eq(u(x=0), X))),
    ("BoundsError PH101", lambda: var(lambda u, X: eq(u, u[x+1]))),
    ("DomainError PH120", lambda: var(lambda u, X: None)),
    ("BoundsError PH101", lambda: update(lambda u: eq(u, 0.5*(u[x-1]+u[x+1])))),
    ("OrderError PH201", lambda: update(lambda u: eq(u, ph.orelse(u[x-1], u)))),
    ("DimError PH002", lambda: update(lambda u: eq(u(x=0), u))),
    ("OrderError PH201", lambda: update(lambda u: eq(u, u(x=y,y=x)))),
    ("OrderError PH201", lambda: update(lambda u: eq(u(x=x//2), u))),
    ("BoundsError PH101", lambda: update(lambda u: eq(u[x+1], u))),
    ("DimError PH001", lambda: loops(3)),
    ("DomainError PH120", lambda: text("")),
    ("DimError PH001", lambda: text("  S: for x < N:\n    Y = Z\n")),
    ("DimError PH001", lambda: text("  S: for x < N:\n    Y = X(y=x)\n")),
    ("DimError PH001", lambda: text("  S: for x < M:\n    Y = X\n")),
    ("ArgumentError PH310", lambda: text("  S: for x < N:\n    X = Y\n")),
    ("SyntaxProblem PH060", lambda: text("  S: for x < N:\n    Y = X +\n")),
    ("SyntaxProblem PH060", lambda: text("  S: for x < N:\n    Y = X * \x00\n")),
    ("SyntaxProblem PH060", lambda: text("  S: for x < N\n    Y = X\n")),
    ("SyntaxProblem PH060", lambda: text("  S: for x < N*N:\n    Y = X\n")),
    ("DomainError PH121", lambda: text("  S: for x < N, y < N:\n    Y = X\n")),
    ("DimError PH001", lambda: text("  S: for x < N:\n    Y = foo(X)\n")),
    ("BoundsError PH101", lambda: text("  S: for x < N:\n    Y = sum[k < 3] X(x=x+k)\n")),
    ("SyntaxProblem PH060", lambda: text("  S: for x < N:\n    Y = X(x=x*x)\n")),
    ("DimError PH002", lambda: text("  S: for x < N:\n    Y = X\n  S: for x < N:\n    Y = X\n")),
    ("DomainError PH121", lambda: text("  S: for x < N:\n    Y = X\n  T: for x < N:\n    Y = X\n")),
    ("DomainError PH120", lambda: text("  S: for x < N - 1:\n    Y = X\n")),
    ("SyntaxProblem PH060", lambda: text("  S: for x < N:\n    Y = X(x=x//0)\n")),
    ("SyntaxProblem PH060", lambda: text("  S: for x < N:\n    Y = " + "("*5000 + "X" + ")"*5000)),
    ("SyntaxProblem PH060", lambda: text("  S: for x < N:\n    Y = " + "-"*5000 + "X")),
    ("SyntaxProblem PH060", lambda: text("  S: for x < 99999999999999999999999:\n    Y = X\n")),
    ("DimError PH001", lambda: text("  S: for x < N at (0, 1, z):\n    Y = X\n")),
    ("SyntaxProblem PH060", lambda: text("  S: for x:\n    Y = X\n")),
    ("SyntaxProblem PH060", lambda: text("  S: for x < N if x:\n    Y = X\n")),
    ("SyntaxProblem PH060", lambda: ph.parse("")),
    ("SyntaxProblem PH060", lambda: ph.parse("hello")),
    ("SyntaxProblem PH060", lambda: ph.parse("program")),
    ("SyntaxProblem PH060", lambda: ph.parse("program p\n input X: f99[x]")),
    ("SyntaxProblem PH060", lambda: ph.parse("program p\n inputs X: f32[x]")),
    ("SyntaxProblem PH060", lambda: ph.parse("program p\n constant C: f32[x: 2] = [1.0]")),
    ("SyntaxProblem PH060", lambda: ph.parse(3)),
    ("SyntaxProblem PH060", lambda: ph.parse(None)),
    ("SyntaxProblem PH060", lambda: ph.parse(b"program p")),
    ("SyntaxProblem PH060", lambda: ph.parse("program p \"unfinished")),
    ("SyntaxProblem PH060", lambda: ph.parse("\ufeffprogram p")),
    ("SyntaxProblem PH060", lambda: ph.parse("program p\n sizes N N")),
    ("SyntaxProblem PH060", lambda: ph.parse("program __import__('os')")),
    ("DimError PH001", lambda: ph.lower(ph.parse(P+S+"X\n"), {"M": 3})),
    ("ArgumentError PH047", lambda: ph.lower(ph.parse(P+S+"X\n"), {"N": -3})),
    ("ArgumentError PH047", lambda: ph.lower(ph.parse(P+S+"X\n"), {"N": "3"})),
    ("ArgumentError PH046", lambda: ph.lower(ph.parse(P+S+"X\n"), {"N": 3}).compile()(f4(4))),
    ("ArgumentError PH045", lambda: ph.lower("program p")),
    ("ArgumentError PH045", lambda: ph.lower(None)),
    ("ArgumentError PH314", lambda: ph.interpret(ph.parse(P+S+"X\n"), {}, {"N": 3})),
    ("DimError PH010", lambda: ph.interpret(ph.parse(P+S+"X\n"), {"X": f4(4)}, {"N": 3})),
]


@pytest.mark.filterwarnings("ignore:out-of-bound:RuntimeWarning")
@pytest.mark.parametrize(("expected", "call"), WRONG, ids=[f"{n} {e}" for n, (e, _) in enumerate(WRONG)])
def test_a_wrong_call_is_refused(expected, call):
    name, _, code = expected.partition(" ")
    with pytest.raises((ph.PolyhedralError, TypeError)) as caught:
        call()
    error = caught.value
    assert (type(error).__name__, error.code) == (name, code)
    assert error.hints
    assert not isinstance(error, ph.InternalError)
    assert "isl" not in str(error).split()


def test_errors_are_those_of_python_too():
    kinds = {e.split()[0]: next(c for f, c in WRONG if f == e) for e, _ in WRONG}
    python = {"DimError": TypeError, "DtypeError": TypeError, "OrderError": TypeError, "BoundsError": IndexError,
              "ArgumentError": ValueError, "DomainError": ValueError, "SyntaxProblem": ValueError}
    for name, wanted in python.items():
        with pytest.raises(wanted):
            kinds[name]()


def test_there_are_enough():
    assert len(WRONG) >= 130
