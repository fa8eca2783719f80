"""Random cells: steps written at random, run by the kernels and by the loop.

``python -m tests.random_cells --cells 10000`` checks that many. A cell is known by its number: the number alone
gives the equations, the sizes and the numbers, so that ``--first 1234 --cells 1`` shows a failure again.
"""

from __future__ import annotations

import argparse
import linecache
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
from elman.layers.recurrent import real_steps

#: Small vectors and no optimisation: a kernel is compiled ten times as fast, from the same C.
QUICK_FLAGS = "-O0 -mno-avx" if os.uname().machine == "x86_64" else "-O0"
TOLERANCE = 1e-10


def _patterns(text: str) -> list[str]:
    return text.split()


#: Pointwise operations by the number of values that they read. What could overflow, or is steep somewhere, reads
#: values of moderate size.
_ONE = _patterns("""
    torch.tanh({0}) torch.sigmoid({0}) torch.relu({0}) torch.sin({0}) torch.cos({0}) torch.abs({0}) -{0} (1-{0})
    torch.exp(-torch.square({0})) torch.log1p(torch.square({0})) torch.sqrt(0.5+torch.square({0})) torch.erf({0})
    torch.rsqrt(1+{0}*{0}) torch.reciprocal(1.5+torch.sin({0})) torch.expm1(torch.tanh({0})) {0}.clamp(-0.7,0.8)
    {0}.clamp(min=-0.4) {0}.clamp(max=0.6) torch.tanh({0})**2 torch.tanh({0})**3 (0.3*{0}+0.1) {0}/1.7
    (0.9/(1.2+{0}*{0}))
    torch.nn.functional.silu({0}) torch.nn.functional.softplus({0}) torch.nn.functional.leaky_relu({0},0.1)
    torch.nn.functional.hardtanh({0}) torch.sigmoid({0})**0.7
    torch.log(0.5+torch.sigmoid({0})) torch.masked_fill({0},{0}>0.3,0.25) torch.nn.functional.relu6({0})
""")
_TWO = _patterns("""
    ({0}+{1}) ({0}-{1}) ({0}*{1}) ({0}*{1}) ({0}+0.5*{1}) torch.add({0},{1},alpha=-0.7) torch.sub({0},{1},alpha=0.3)
    torch.maximum({0},{1}) torch.minimum({0},{1}) {0}/(1+torch.square({1})) torch.where({0}>{1},{0},{1}*{1})
    torch.where({0}>0.1,{1},-{1}) (torch.sigmoid({0})+0.5)**torch.tanh({1}) torch.sigmoid({0})*{1}
    (1-torch.sigmoid({0}))*{1} torch.where(({0}>0)&({1}<0.2),{0}*{1},{1}) torch.where(({0}>0)|({1}<0.2),{0},{0}*{1})
""")
_THREE = _patterns("""
    torch.where({0}>0.2,{1},{2}) ({0}*{1}+(1-{0})*{2}) ({0}+{1}*{2}) torch.where({0}<={1},{2},{0}) {0}*{1}*{2}
""")
#: Operations that read all units of a row, for cells that declare ``mixes_units``.
_ACROSS = _patterns("""
    ({0}-{0}.mean(-1,keepdim=True)) {0}*torch.tanh({0}.sum(-1,keepdim=True)) torch.layer_norm({0},{0}.shape[-1:])
    {0}*torch.rsqrt(torch.square({0}).mean(-1,keepdim=True)+0.3) torch.tanh({0}.mean(-1,keepdim=True))*{1}
    torch.cat(({0},{1}),-1).sum(-1,keepdim=True).sigmoid()*{0}
    torch.layer_norm(torch.cat(({0},{1}),-1),(2*{0}.shape[-1],)).chunk(2,-1)[1]
""")
#: Operations whose gradient is another where values are equal.
_TIES = _patterns("""
    torch.maximum({0},{1}) torch.minimum({0},{1}) torch.abs({0}) torch.relu({0}) {0}.clamp(-0.5,0.5) {0}.clamp(min=0)
    {0}.clamp(max=0.25) torch.where({0}>{1},{0},{2}) torch.where({0}>={1},{1},{2}) ({0}+{1}).clamp(-2,2)
    ({0}-{1}).clamp(-2,2) 0.5*{0} torch.nn.functional.hardtanh({0}) torch.nn.functional.leaky_relu({0},0.25)
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
        space: dict[str, Any] = {"torch": torch, "Cell": Cell}
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

        x, state = numbers(B, T, D), tuple(numbers(B, H, scale=0.5) for _ in cell.state)
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
                return f"cell {self.number} is refused: {error}\n{self.source()}"
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
        self.mixes = not self.exact and choose.random() < 0.3
        self.lines: list[str] = []
        self.values = [f"x.{k}" for k in letters] + [f"h.{k}" for k in hidden] + [f"state.{k}" for k in states]
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
        declared = {"input_gates": letters, "hidden_gates": hidden, "inner_gates": inner, "state": states}
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

    def _expression(self) -> str:
        if self.exact:
            kinds = [_TIES]
        else:
            kinds = [_ONE, _TWO, _TWO, _THREE] + [_ACROSS] * (2 * self.mixes)
        pattern = self.choose.choice(self.choose.choice(kinds))
        return pattern.format(
            *(
                self._value(moderate="exp" in pattern or ("*" in pattern and self.choose.random() < 0.4))
                for _ in range(3)
            )
        )


def _failure(number: int, exact: bool) -> str:
    torch.set_num_threads(2)
    return RandomCell(number, exact).check()


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
                    print(f"{done:,} cells, {failed} differ, {odd} overflow", flush=True)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
