"""Random cells: steps written at random, run by the kernels and by the loop.

``python -m tests.random_cells --cells 10000`` checks that many. A cell is known by its number: the number alone
gives the equations, the sizes and the numbers, so that ``--first 1234 --cells 1`` shows a failure again.
"""

from __future__ import annotations

import argparse
import linecache
import logging
import os
import random
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import elman
from elman import engines
from elman.cells import Cell, Weights
from elman.engines import Scan
from elman.layers.lengths import real_steps
from tests.conftest import QUICK_FLAGS

TOLERANCE = 1e-10


def _patterns(text: str) -> list[str]:
    return text.split()


#: Pointwise operations by the number of values that they read. What could overflow, or is steep somewhere, reads
#: values of moderate size. ``{a}`` and ``{b}`` are two values that are equal to nothing else, for what is another where
#: values are equal or whole.
_ONE = _patterns("""
    torch.tanh({0}) torch.sigmoid({0}) torch.relu({0}) torch.sin({0}) torch.cos({0}) torch.abs({0}) -{0} (1-{0})
    torch.exp(-torch.square({0})) torch.log1p(torch.square({0})) torch.sqrt(0.5+torch.square({0})) torch.erf({0})
    torch.rsqrt(1+{0}*{0}) torch.reciprocal(1.5+torch.sin({0})) torch.expm1(torch.tanh({0})) {0}.clamp(-0.7,0.8)
    {0}.clamp(min=-0.4) {0}.clamp(max=0.6) torch.tanh({0})**2 torch.tanh({0})**3 (0.3*{0}+0.1) {0}/1.7
    (0.9/(1.2+{0}*{0})) F.silu({0}) F.softplus({0}) F.softplus({0},2,1.5) F.leaky_relu({0},0.1) F.hardtanh({0})
    torch.sigmoid({0})**0.7 torch.log(0.5+torch.sigmoid({0})) torch.masked_fill({0},{0}>0.3,0.25) F.relu6({0})
    F.gelu({0}) F.gelu({0},approximate="tanh") F.elu({0},0.7) F.selu({0}) F.celu({0},0.6) F.hardsigmoid(4*{0})
    F.hardswish(3*{0}) F.mish({0}) F.logsigmoid({0}) F.softsign({0}) F.tanhshrink({0}) F.softshrink({0},0.1)
    F.hardshrink({a},0.1) F.threshold({a},0.1,0.6) F.hardtanh({0},-0.5,0.3) torch.logit(torch.sigmoid(torch.tanh({0})))
    torch.sigmoid({0}).logit(0.3) {a}.floor() {a}.ceil() {a}.trunc() {a}.round() {a}.round(decimals=1) torch.frac({a})
    torch.fmod({a},0.7) {a}%0.5 ({a}.detach()//0.7) torch.sign({a}) torch.atan({0})
    torch.asin(0.9*torch.sin({0})) torch.acos(0.9*torch.cos({0})) torch.tan(torch.sin({0})) torch.sinh(torch.tanh({0}))
    torch.cosh(torch.tanh({0})) torch.asinh({0}) torch.acosh(1.5+{0}*{0}) torch.atanh(0.9*torch.sin({0})) 1.7**{0}
    torch.exp2(torch.tanh({0})) 0.3**torch.tanh({0}) torch.pow(2,torch.sigmoid({0})) torch.log2(0.4+{0}*{0})
    torch.log10(0.4+{0}*{0}) torch.erfc({0}) torch.sinc({0}) (0.5+{0}*{0})**1.7 (0.5+{0}*{0})**-0.5
    torch.deg2rad(9*{0})
    torch.nan_to_num(torch.log({a}).detach(),0.5,1.0,-1.0) torch.nan_to_num({0})
    {0}.new_full({0}.shape,0.4) {0}.detach()
    torch.rsub({0},1.3,alpha=0.4) {0}.clone().view_as({0}) torch.exp(torch.tanh({0})).log() {0}.double() +{0}
""")
_TWO = _patterns("""
    ({0}+{1}) ({0}-{1}) ({0}*{1}) ({0}*{1}) ({0}+0.5*{1}) torch.add({0},{1},alpha=-0.7) torch.sub({0},{1},alpha=0.3)
    torch.maximum({0},{1}) torch.minimum({0},{1}) {0}/(1+torch.square({1})) torch.where({0}>{1},{0},{1}*{1})
    torch.where({0}>0.1,{1},-{1}) (torch.sigmoid({0})+0.5)**torch.tanh({1}) torch.sigmoid({0})*{1}
    (1-torch.sigmoid({0}))*{1} torch.where(({0}>0)&({1}<0.2),{0}*{1},{1}) torch.where(({0}>0)|({1}<0.2),{0},{0}*{1})
    torch.fmod({a},0.6+torch.sigmoid({0})) torch.remainder({a},0.6+torch.sigmoid({0})) torch.copysign({0},{a})
    torch.div({a},0.6+torch.sigmoid({1}),rounding_mode="floor")*{0}
    torch.where({a}.signbit(),{0},{1}) torch.hypot({a},{b})
    torch.div({a},0.6+torch.sigmoid({1}),rounding_mode="trunc")+{0} torch.heaviside({a}.detach(),{0}.detach())*{1}
    torch.atan2({a},{b}) torch.logaddexp({0},{1}) torch.logaddexp2({0},{1}) torch.xlogy({0},0.3+torch.sigmoid({1}))
    torch.lerp({0},{1},0.3) torch.lerp({0},{1},0.7) torch.clamp({a},min={b}) torch.clamp({0},{a}-1,{a}+0.8)
    torch.fmax({a},{b}) torch.fmin({a},{b})*{0} torch.where(({a}>0)^({b}>0.1),{0},{1}) ({a}>0.1)*{0}
    torch.where(torch.logical_not({a}>0),{0},{1}) torch.where({a}.isfinite(),{0},{1}) torch.where({a}>0,0.25,0.75)*{0}
    (torch.ones_like({0})-{1}) ({a}>{b}).to({0}.dtype)*{0} torch.where(~({a}>0)&({b}!=0),{0},{1}) ({0}+{1}.detach())
    torch.where({a}>0,{0}>0.1,{0}<0.2)*{1} torch.max({a},{b}) torch.min({0},{1}) {0}.sub({1}).mul(0.6)
""")
_THREE = _patterns("""
    torch.where({0}>0.2,{1},{2}) ({0}*{1}+(1-{0})*{2}) ({0}+{1}*{2}) torch.where({0}<={1},{2},{0}) {0}*{1}*{2}
    torch.lerp({0},{1},torch.sigmoid({2})) torch.addcmul({0},{1},{2},value=0.3) torch.lerp({0},{1},{2})
    torch.addcdiv({0},{1},1.5+torch.sin({2}),value=-0.4) {0}.masked_fill({a}>0.2,0.1)*{1}+{2}
""")
#: Operations that read all units of a row, for cells that declare ``mixes_units``. A norm without ``eps`` reads what is
#: not 0: rows that are the same in all units are, after another norm, rounding errors and nothing else.
_ACROSS = _patterns("""
    ({0}-{0}.mean(-1,keepdim=True)) {0}*torch.tanh({0}.sum(-1,keepdim=True)) torch.layer_norm({0},{0}.shape[-1:])
    {0}*torch.rsqrt(torch.square({0}).mean(-1,keepdim=True)+0.3) torch.tanh({0}.mean(-1,keepdim=True))*{1}
    torch.cat(({0},{1}),-1).sum(-1,keepdim=True).sigmoid()*{0}
    torch.softmax({0},-1)*{1} F.log_softmax(torch.tanh({0}),1)
    torch.layer_norm(torch.cat(({0},{1}),-1),(2*{0}.shape[-1],)).chunk(2,-1)[1] F.softmin({0},-1)*{0}.shape[-1]
    torch.softmax(torch.cat(({0},{1}),-1),-1).chunk(2,-1)[0]*3 {0}.logsumexp(-1,keepdim=True)*torch.tanh({1})
    torch.sqrt({0}.var(-1,correction=0,keepdim=True)+0.2)*{1} {0}.var(-1,correction=0)[:,None].tanh()*{1}
    torch.cat(({a},{b}),-1).std(-1,keepdim=True)*{0} torch.cat(({0},{1}),-1).var(1,keepdim=True).tanh()*{0}
    torch.std_mean(torch.cat(({a},{b}),-1),-1,keepdim=True)[0]*{0}
    torch.var_mean({0},-1,correction=0,keepdim=True)[1]*{1}
    F.rms_norm(1+{0}*{0},{0}.shape[-1:]) F.rms_norm({0},{0}.shape[-1:],eps=0.1) torch.group_norm({0},1)*{1}
    F.glu(torch.cat(({0},{1}),-1)) F.glu(torch.cat(({0},{1},{2},{0}),-1)).chunk(2,1)[1]
    F.gelu(torch.cat(({0},{1}),-1)).chunk(2,-1)[0] torch.cat(({0},{1},{2}),-1)[:,{0}.shape[-1]:2*{0}.shape[-1]]
    torch.cat(({0},{1},{2}),1).split({0}.shape[-1],1)[2] {0}.nansum(-1,True).tanh()*{1}
    ({a}>0).sum(-1,keepdim=True)*{0}/{0}.shape[-1] {a}.amax(-1,keepdim=True)*{0} {a}.amin(-1)[:,None]*{0}
    torch.cat(({a},{b}),-1).amax(-1,keepdim=True)*{0} torch.aminmax({a},dim=-1,keepdim=True)[1]*{0}
    {a}.max(-1,keepdim=True)[0]*{0} {a}.min(1).values.unsqueeze(1)*{0} torch.cat(({a},{b}),-1).min(1,True)[0]*{0}
    torch.where({a}>={a}.amax(-1,keepdim=True),{0}*{1},{1}) {a}.norm(p=float("inf"),dim=-1,keepdim=True)*{0}
    torch.linalg.vector_norm({a},-float("inf"),dim=-1,keepdim=True)*{0} {a}.norm(dim=-1,keepdim=True)*torch.tanh({0})
    torch.where(({a}>1.1).any(-1,keepdim=True),{0},{1}) torch.where(({a}>-0.4).all(-1,keepdim=True),{0},{1})
    torch.tanh({a}.norm(p=1,dim=-1,keepdim=True))*{0} {a}.norm(p=3,dim=1,keepdim=True)*torch.tanh({0})
    F.normalize({a},dim=-1) F.normalize({0},dim=-1,eps=0.5) F.cosine_similarity({a},{b},dim=-1)[:,None]*{0}
    torch.tanh({0}.cumsum(-1))*{1} torch.tanh({0}.flip(-1).cumsum(-1).flip(-1)) {0}.softmax(-1).cumsum(-1)*{1}
    torch.tanh(torch.cat(({0},{1}),-1).cumsum(-1)).chunk(2,-1)[1] (1-{0}.softmax(-1).cumsum(1))*{1}
    torch.tanh(torch.cat(({0},{1}),-1).flip(-1).cumsum(-1).flip(-1)).chunk(2,-1)[0] {0}.mean(dim=1).unsqueeze(-1)+{1}
""")
#: What is made of a vector, (H,), for all rows: ``{w}``, ``{v}``.
_VECTORS = _patterns("""
    {0}*{w}.mean() {0}+{w}.sum().tanh() {0}*torch.softmax({w},0) {0}+{w}/(0.1+{w}.norm()) {0}*{w}.cumsum(0).tanh()
    {0}*{w}.flip(0) {0}*{w}.sort()[0] {0}*torch.tanh({w}@{v}) {0}*{w}.roll(1) {0}+{w}.amax() {0}*torch.sigmoid({w}[0])
    {0}*torch.stack(({w},{v})).mean(0) {0}*torch.outer({w},{v}).mean(1) F.prelu({0},{w}) {0}+F.gelu({w})*{v}.exp().log()
    torch.where({a}>{w},{0},{1}) torch.lerp({0},{1},torch.sigmoid({w})) {0}*torch.where({w}>{v},{w},0.4)
    {0}+{w}[:,None].expand(-1,3).mean(1) ({w}+{0}) ({w}-{v})*{0} torch.maximum({a},{w}) {0}*(1.5+torch.sin({w}))**{v}
    torch.exp(-torch.sigmoid({w}))*{0} {0}*{w}.unsqueeze(0) {0}*({w}*{v}).sum().tanh() {0}*{w}.var(correction=0)
    {0}*torch.stack([{w},{v}],1).amax(1) {0}*{w}.max(0)[0] {0}*torch.var_mean(torch.cat(({w},{v})),0)[0].tanh()
""")
_VECTORS_ACROSS = _patterns("""
    F.rms_norm({0},{w}.shape,{w},0.1) F.layer_norm({0},{w}.shape,{w},{v}) torch.group_norm({0},1,{w},{v})
    ({0}*{w}).softmax(-1)
    torch.tanh(({0}*{w}).sum(-1,keepdim=True))*{1} F.layer_norm({0},{w}.shape,{w})
    ({0}+{w}).logsumexp(1,True)*{w}
""")
#: Operations whose gradient is another where values are equal.
_TIES = _patterns("""
    torch.maximum({0},{1}) torch.minimum({0},{1}) torch.abs({0}) torch.relu({0}) {0}.clamp(-0.5,0.5) {0}.clamp(min=0)
    {0}.clamp(max=0.25) torch.where({0}>{1},{0},{2}) torch.where({0}>={1},{1},{2}) ({0}+{1}).clamp(-2,2)
    ({0}-{1}).clamp(-2,2) 0.5*{0} F.hardtanh({0}) F.leaky_relu({0},0.25) {0}.floor() {0}.ceil() {0}.trunc() {0}.round()
    torch.frac({0}) torch.fmod({0},0.5) {0}%0.75 torch.sign({0})*{1} torch.copysign({0},{1}-0.123)
    F.softshrink({0},0.25)
    F.hardshrink({0},0.25) F.threshold({0},0.25,0.5) torch.fmax({0},{1}) torch.fmin({0},{1}) torch.clamp({0},{1},{2})
    torch.clamp({0},min={1}) torch.where({0}=={1},{2},{0}) torch.where({0}!={1},{2},{1}) torch.lerp({0},{1},0.5)
    torch.heaviside({0}.detach(),{1}.detach())*{2} F.relu6(4*{0}) ({0}.detach()//0.75) torch.max({0},{1})
    {0}.clamp(0.25,-0.25)
    torch.fmod({0},{1}.abs().clamp(0.25,1.0)) torch.remainder({0},{1}.clamp(0.25,1.0))
    torch.where(({0}-0.123).signbit(),{1},{2}) torch.addcmul({0},{1},{2},value=0.5).clamp(-2,2) ({0}>0)*{1}
    torch.square({0}).clamp(max=2)
""")
_TIES_ACROSS = _patterns("""
    {0}.amax(-1,keepdim=True)-{1} {0}.amin(-1)[:,None]+{1} {0}.max(-1,keepdim=True)[0]-{1} {0}.min(1).values[:,None]-{1}
    torch.cat(({0},{1}),-1).amax(-1,keepdim=True)-{2} torch.cat(({0},{1}),-1).max(-1,keepdim=True)[0]-{2}
    torch.aminmax({0},dim=-1,keepdim=True)[0]+{1} torch.where({0}>={0}.amax(-1,keepdim=True),{1},{2})
    {0}.norm(p=float("inf"),dim=-1,keepdim=True)-{1} {0}.norm(p=1,dim=-1,keepdim=True).clamp(max=2)-{1}
    torch.linalg.vector_norm({0},-float("inf"),dim=-1,keepdim=True)+{1} {0}.cumsum(-1).clamp(-2,2)
    torch.where(({0}>0.5).any(-1,keepdim=True),{1},{2}) torch.where(({0}>=-0.5).all(-1,keepdim=True),{1},{2})
    torch.cat(({0},{1}),-1).min(1,True)[0]+{2} ({0}>0).sum(-1,keepdim=True).clamp(max=2)*{1}
""")


@dataclass(frozen=True)
class RandomCell:
    """A cell written at random.

    Args:
        number: what it is made from.
        exact: sums and products only, of numbers that binary fractions hold, so that values tie exactly.
    """

    number: int
    exact: bool = False

    def source(self) -> str:
        """The class, as a person would have written it."""
        return _Author(random.Random(f"cell {self.number}"), self.exact).write(f"Random{self.number}")

    def cell(self) -> Cell:
        """The cell itself."""
        source, name = self.source(), f"<random cell {self.number}>"
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        space: dict[str, Any] = {"torch": torch, "F": torch.nn.functional, "Cell": Cell}
        exec(compile(source, name, "exec"), space)
        return space[f"Random{self.number}"]()

    def scan(self, cell: Cell) -> tuple[Scan, list[Tensor]]:
        """Random sizes, weights, lengths, resets, masks and zoneout; and what has gradients."""
        choose = random.Random(f"scan {self.number}")
        draw = torch.Generator().manual_seed(self.number)
        B, T, D = choose.randint(1, 5), choose.randint(1, 7), choose.randint(1, 4)
        H = choose.choice([1, 2, 3, 4, 5, 7, 8, 9, 13, 17])
        if choose.random() < 0.03:  # enough for more than one thread
            B, T, H = 9, 24, 24
        hidden = len(cell.hidden_gates) + len(cell.inner_gates)
        heads = 2 if H % 2 == 0 and hidden and not cell.inner_gates and choose.random() < 0.2 else 1
        leaves: list[Tensor] = []

        def numbers(*shape: int, scale: float = 1.0) -> Tensor:
            value = torch.randn(*shape, generator=draw, dtype=torch.float64) * scale
            leaves.append(((value * 4).round() / 4 if self.exact else value).requires_grad_())
            return leaves[-1]

        x, state = numbers(B, T, D + len(cell.raw)), tuple(numbers(B, H, scale=0.5) for _ in cell.state)
        bias = choose.random() < 0.8
        w_hh = numbers(hidden * H, H, scale=0.5 / H**0.5) if hidden else None
        if heads > 1 and w_hh is not None:
            block = torch.ones(H // heads, H // heads, dtype=torch.float64)
            w_hh = w_hh * torch.block_diag(*[block] * heads).repeat(hidden, 1)
        weights = Weights(
            numbers(len(cell.input_gates) * H, D, scale=0.6), w_hh,
            numbers(len(cell.input_gates) * H, scale=0.3) if bias else None,
            numbers(hidden * H, scale=0.3) if bias and hidden else None, None,
            tuple(numbers(H) for _ in cell.weights),
        )  # fmt: skip
        lengths = torch.randint(0, T + 1, (B,), generator=draw) if choose.random() < 0.5 else None
        resets = torch.rand(B, T, generator=draw) < 0.3 if choose.random() < 0.5 else None
        if resets is not None and lengths is not None:
            resets &= real_steps(lengths, T)
        mask = (torch.rand(B, H, generator=draw) < 0.7).double() * 1.5 if choose.random() < 0.3 and hidden else None
        zoneout: tuple[float | Tensor, ...] | None = None
        if choose.random() < 0.25:
            kept = (torch.rand(B, T, H, generator=draw) < 0.3).double()
            zoneout = tuple(choose.choice([0.0, 0.25, kept]) for _ in cell.state)
        return Scan(cell, weights, x, state, lengths, resets, mask, zoneout, False, heads), leaves

    def check(self) -> str:
        """What is wrong; nothing if the kernel equals the loop in output, final state and every gradient."""
        cell = self.cell()
        scan, leaves = self.scan(cell)
        found = []
        for name in ("eager", "cpu"):
            try:
                with elman.engine(name, strict=True):
                    y, final = engines.run(scan)
            except elman.ElmanError as error:
                if "the new state has no gradient" in str(error):
                    return f"cell {self.number} is no test: it is constant"
                return f"cell {self.number} is refused: {error}\n{self.source()}"
            if not any(t.requires_grad for t in (y, *final)):
                return f"cell {self.number} is no test: it is constant"
            draw = torch.Generator().manual_seed(1)
            total = sum((t * torch.randn(t.shape, generator=draw, dtype=t.dtype)).sum() for t in (y, *final))
            grads = torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
            found.append([y, *final, *grads])
        worst = 0.0
        for law, ours in zip(*found, strict=True):
            if not torch.isfinite(law).all():
                return f"cell {self.number} is no test: it overflows"
            if law.numel():
                worst = max(worst, float((law - ours).detach().abs().max()) / max(1.0, float(law.detach().abs().max())))
        return "" if worst <= TOLERANCE else f"cell {self.number} differs by {worst:.1e}:\n{self.source()}"


class _Author:
    """Writes one cell."""

    def __init__(self, choose: random.Random, exact: bool) -> None:
        self.choose, self.exact = choose, exact

    def write(self, name: str) -> str:
        choose = self.choose
        letters = "ifgo"[: choose.randint(1, 4)]
        hidden, inner = letters[: choose.randint(0, len(letters))], "nm"[: choose.choice([0, 0, 1, 1, 2])]
        states, vectors = "hcq"[: choose.choice([1, 1, 2, 3])], "pvu"[: choose.choice([0, 0, 1, 2, 3])]
        raw = ("dt", "k")[: choose.choice([0, 0, 0, 1, 2])]
        self.mixes = choose.random() < 0.4
        self.lines: list[str] = []
        self.gates = [f"x.{k}" for k in letters]
        self.values = [*self.gates, *(f"x.{k}" for k in raw), *(f"h.{k}" for k in hidden)]
        self.values += [f"state.{k}" for k in states]
        self.vectors = [f"w.{k}" for k in vectors]
        gates = list(inner)
        steps = choose.randint(2, 9) + len(gates)
        for step in range(steps):
            if gates and choose.random() < len(gates) / (steps - step):
                self._assign(f"h.{gates.pop()}({self._value(moderate=True)})")
            else:
                self._assign(self._expression())
        results = []
        for k, _ in enumerate(states):  # every new part reads what is newest, so that little is left unused
            newest = self.values[-1 - k]
            bound = "{}.clamp(-4,4)" if self.exact else choose.choice(["torch.tanh({})", "0.5*torch.tanh({})"])
            results.append(
                f"0.5*{self._pick()}+{bound.format(newest)}" if choose.random() < 0.5 else bound.format(newest)
            )
        declared = {"input_gates": letters, "hidden_gates": hidden, "inner_gates": inner, "state": states, "raw": raw}
        body = [f"    {key} = {tuple(value)!r}" for key, value in declared.items()]
        body += [f"    weights = {dict.fromkeys(vectors, 0.0)!r}", f"    mixes_units = {self.mixes}", ""]
        body += ["    def step(self, x, h, state, w):", *(f"        {line}" for line in self.lines)]
        body += [f"        return {', '.join(results)}"]
        return "\n".join([f"class Random{name.removeprefix('Random')}(Cell):", *body]) + "\n"

    def _assign(self, expression: str) -> None:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {expression}")
        self.values.append(name)

    def _pick(self) -> str:
        """A value; the newer, the likelier."""
        count = len(self.values)
        return self.values[max(self.choose.randrange(count), self.choose.randrange(count))]

    def _value(self, moderate: bool = False) -> str:
        value = self._pick()
        if self.vectors and self.choose.random() < 0.2:
            vector = self.choose.choice(self.vectors)
            value = f"({value}*{vector})" if self.exact else f"({value}*torch.sigmoid({vector}))"
        if moderate and not self.exact:
            return f"torch.tanh({value})"
        return value

    def _unequal(self, factor: float) -> str:
        """A value that is no whole number, and equal to no other: that of a gate is part of it."""
        return f"({self._value(moderate=True)}+{factor}*{self.choose.choice(self.gates)})"

    def _expression(self) -> str:
        if self.exact:
            kinds = [_TIES] * 2 + [_TIES_ACROSS] * self.mixes
        else:
            kinds = [_ONE, _TWO, _TWO, _THREE] + [_ACROSS] * (2 * self.mixes)
            if self.vectors:
                kinds += [_VECTORS] + [_VECTORS_ACROSS] * self.mixes
        pattern = self.choose.choice(self.choose.choice(kinds))
        steep = any(name in pattern for name in ("exp", "**", "cumsum", "mean(1)"))
        return pattern.format(
            *(self._value(moderate=steep or ("*" in pattern and self.choose.random() < 0.4)) for _ in range(3)),
            a=self._unequal(0.37) if "{a}" in pattern else "",
            b=self._unequal(-0.29) if "{b}" in pattern else "",
            w=self.choose.choice(self.vectors or [""]),
            v=self.choose.choice(self.vectors or [""]),
        )


def _failure(number: int, exact: bool) -> str:
    torch.set_num_threads(2)
    logging.getLogger("elman").setLevel(logging.ERROR)
    try:
        return RandomCell(number, exact).check()
    except Exception as error:
        return f"cell {number} fails: {type(error).__name__}: {error}\n{RandomCell(number, exact).source()}"


def main() -> None:
    """Checks many cells; prints those that differ."""
    parse = argparse.ArgumentParser(description="check that the kernels of random cells equal the loop")
    parse.add_argument("--cells", type=int, default=10_000, help="how many (default: %(default)s)")
    parse.add_argument("--first", type=int, default=0, help="number of the first (default: %(default)s)")
    parse.add_argument("--exact", action="store_true", help="cells and numbers whose values tie exactly")
    parse.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: %(default)s)")
    parse.add_argument("--flags", default=QUICK_FLAGS, help="more flags for the C compiler (default: %(default)s)")
    given = parse.parse_args()
    failed, odd = 0, 0
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= {"ELMAN_CACHE": cache, "ELMAN_CFLAGS": given.flags}
        with ProcessPoolExecutor(given.jobs) as pool:
            numbers = range(given.first, given.first + given.cells)
            for done, report in enumerate(pool.map(_failure, numbers, [given.exact] * given.cells, chunksize=8), 1):
                odd += "is no test" in report
                if report and "is no test" not in report:
                    failed += 1
                    print(report, flush=True)
                if done % 100 == 0:
                    print(f"{done:,} cells, {failed} differ, {odd} overflow or are constant", flush=True)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
