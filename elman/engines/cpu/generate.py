"""C from a cell's program: two short functions and the numbers that the kernel around them needs."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from elman.cells import Cell
from elman.engines.trace import Node, Program, TraceError

#: What a value is in C, given its arguments. Masks (the results of comparisons) are vectors of 0 and -1.
_C = {
    "add": "{0} + {1}",
    "add2": "{0} + {1} * {2}",
    "sub": "{0} - {1}",
    "sub2": "{0} - {1} * {2}",
    "rsub": "{1} - {0}",
    "rsub2": "{1} - {0} * {2}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "reciprocal": "1 / {0}",
    "abs": "v_abs({0})",
    "sign": "v_sign({0})",
    "sgn": "v_sign({0})",
    "exp": "v_exp({0})",
    "expm1": "v_expm1({0})",
    "log": "v_log({0})",
    "log1p": "v_log1p({0})",
    "sqrt": "v_sqrt({0})",
    "rsqrt": "1 / v_sqrt({0})",
    "sin": "v_sin({0})",
    "cos": "v_cos({0})",
    "erf": "v_erf({0})",
    "pow": "v_power({0}, {1})",
    "square": "{0} * {0}",
    "sigmoid": "v_sigmoid({0})",
    "tanh": "v_tanh({0})",
    "relu": "v_relu({0})",
    "silu": "{0} * v_sigmoid({0})",
    "softplus": "v_softplus({0}, {1}, {2})",
    "leaky_relu": "choose({0} > 0, {0}, {0} * {1})",
    "hardtanh": "v_minimum(v_maximum({0}, {1}), {2})",
    "clamp": "v_minimum(v_maximum({0}, {1}), {2})",
    "clamp_min": "v_maximum({0}, {1})",
    "clamp_max": "v_minimum({0}, {1})",
    "maximum": "v_maximum({0}, {1})",
    "minimum": "v_minimum({0}, {1})",
    "where": "choose({0}, {1}, {2})",
    "masked_fill": "choose({1}, {2}, {0})",
    "fill": "{0}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "logical_and": "{0} & {1}",
    "logical_or": "{0} | {1}",
    "logical_not": "~{0}",
    "bitwise_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}",
    "bitwise_not": "~{0}",
    "sigmoid_backward": "{0} * (1 - {1}) * {1}",
    "tanh_backward": "{0} * (1 - {1} * {1})",
    "threshold_backward": "choose({1} <= {2}, all(0), {0})",
    "silu_backward": "{0} * v_sigmoid({1}) * (1 + {1} * (1 - v_sigmoid({1})))",
    "softplus_backward": "choose({1} * {2} > {3}, {0}, {0} * v_sigmoid({1} * {2}))",
    "leaky_relu_backward": "choose({1} > 0, {0}, {0} * {2})",
    "hardtanh_backward": "choose(({1} > {2}) & ({1} < {3}), {0}, all(0))",
}
_MASKS = {"gt", "ge", "lt", "le", "eq", "ne", "logical_and", "logical_or", "logical_not"} | {
    "bitwise_and", "bitwise_or", "bitwise_not"
}  # fmt: skip
#: Arguments that stay plain numbers in C.
_NUMBERS = {"pow": {1}, "softplus": {1, 2}, "softplus_backward": {2, 3}}
#: Letters of an author that mean something else in C, or here.
_WORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while asm typeof
    linux unix real item elem whole choose mix clip first load store get put up least most pair VL PER E M V U
"""
_RESERVED = frozenset(_WORDS.split())
#: Functions that go lane by lane: too slow to be done twice.
_SLOW = {"log", "log1p", "expm1", "sin", "cos", "erf", "pow", "softplus"}


def source(cell: Cell, program: Program, dtype: str) -> str:
    """The whole text of a kernel, for dtype float32, bfloat16 or float64."""
    define = {"float32": "", "bfloat16": "#define BFLOAT16\n", "float64": "#define FLOAT64\n"}[dtype]
    tiles = "\n".join(_tiles(bool(cell.hidden_gates)))
    parts = [_read("product.h").replace("//TILES", tiles), *map(_read, ("job.h", "forward.c", "backward.c"))]
    return "\n".join(
        [f"/* {type(cell).__name__}: {dtype} */", define + _read("vector.h"), cell_source(cell, program), *parts]
    )


@functools.cache
def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def cell_source(cell: Cell, program: Program) -> str:
    """The part that is the cell's own."""
    columns = list(dict.fromkeys(id(n) for n in (*program.input_grads, *program.hidden_grads)))
    nodes = {id(n): n for n in (*program.input_grads, *program.hidden_grads)}
    forward, keep = _forward(cell, program)
    backward = _backward(cell, program, [nodes[c] for c in columns], keep)
    doc = "\n".join(" * " + line.strip() for line in (type(cell).__doc__ or "").strip().splitlines())

    def numbers(grads: Sequence[Node | None]) -> str:
        return ", ".join(str(columns.index(id(g))) for g in grads) or "0"

    return f"""/* {type(cell).__name__}
 *
{doc.replace("*/", "* /")}
 */
#define G_IN {len(cell.input_gates)} /* {", ".join(cell.input_gates)} */
#define G_HID {len(cell.hidden_gates)} /* {", ".join(cell.hidden_gates)} */
#define G_MAX {max(len(cell.input_gates), len(cell.hidden_gates))}
#define STATES {len(cell.state)} /* {", ".join(cell.state)} */
#define UNITS {len(program.units)}
#define SUMS {len(program.unit_grads)}
#define SAVED {len(keep)}
#define COLS {len(columns)}
static const i64 COL_IN[G_IN] = {{{numbers(program.input_grads)}}};
static const i64 COL_HID[G_HID + 1] = {{{numbers(program.hidden_grads)}}};

/* the gates' inputs x and h, the state s, values per unit w -> the new state n, and what backward needs */
INLINE void step(const V *x, const V *h, const V *s, const V *w, V *n, V *keep) {{
    (void)h, (void)s, (void)w, (void)keep;
{forward}}}

/* what was kept, the old h, and the gradient d of the new state
   -> of the gates (by column), of the old state, and of values per unit (to be summed) */
INLINE void step_back(const V *keep, const V *s, const V *w, const V *d, V *gates, V *old, V *sum) {{
    (void)keep, (void)s, (void)w, (void)sum;
{backward}}}
"""


def _tiles(hidden: bool) -> Iterator[str]:
    """One product for each number of rows that may be taken at a time."""
    kinds = [("x", "NV_X", "BY_ROW"), ("n", "NV_N", "BY_ROW"), ("w", "NV_N", "BY_COLUMN")]
    for kind, nv, at in kinds + ([("h", "NV_H", "BY_ROW")] if hidden else []):
        for rows in range(1, 13):
            yield f"#if ROWS({nv}) >= {rows}"
            one = rows == 1 and at == "BY_ROW"
            yield f"TILE_1(tile_{kind}_1, {nv})" if one else f"TILE(tile_{kind}_{rows}, {rows}, {nv}, {at})"
            yield f"#else\n#define tile_{kind}_{rows} 0\n#endif"
        yield f"static Tile *const tiles_{kind}[] = {{0, {', '.join(f'tile_{kind}_{r}' for r in range(1, 13))}}};"


class _Writer:
    """Statements for nodes, each computed once."""

    def __init__(self, cell: Cell, program: Program) -> None:
        self.lines: list[str] = []
        self.names: dict[int, str] = {}
        self.cell = cell
        bundles = {"x": cell.input_gates, "h": cell.hidden_gates, "s": cell.state, "d": cell.state}
        self.inputs = {f"{key}_{name}": f"{key}[{k}]" for key, names in bundles.items() for k, name in enumerate(names)}
        self.units = {id(n): f"w[{k}]" for k, n in enumerate(program.units)}
        self.taken = {"x", "h", "s", "w", "n", "d", "keep", "gates", "old", "sum", "all", "step", "V", "E", "M"}

    def __call__(self, node: Node | None) -> str:
        """The C of a value; before it is used, its statement is written."""
        if node is None:
            return "all(0)"
        if id(node) in self.names:
            return self.names[id(node)]
        if id(node) in self.units:
            text = self.units[id(node)]
            name = self._fresh(node.letter or "w")
        elif node.op in self.inputs:
            text, name = self.inputs[node.op], self._fresh(node.op)
        elif node.op == "fill":
            return f"all({float(node.arguments[0])!r})" if abs(node.arguments[0]) < 1e30 else self._huge(node)
        else:
            text, name = self._expression(node), self._fresh(node.letter or "v")
        kind = "M" if node.op in _MASKS else "V"
        self.lines.append(f"    const {kind} {name} = {text};")
        self.names[id(node)] = name
        return name

    @staticmethod
    def _huge(node: Node) -> str:
        value = node.arguments[0]
        return (
            "all(NAN)"
            if value != value
            else f"all({'-' if value < 0 else ''}INFINITY)"
            if abs(value) == float("inf")
            else f"all({value!r})"
        )

    def _expression(self, node: Node) -> str:
        op, arguments = node.op, list(node.arguments)
        if op in ("add", "sub", "rsub") and len(arguments) == 3:
            op = f"{op}2" if arguments[2] != 1 else op
        if op == "pow" and not isinstance(arguments[0], Node):
            raise TraceError(f"{node.where}: a number to the power of a value; write exp(value * log(number))")
        if op == "pow" and isinstance(arguments[1], Node):
            return f"v_pow({self(arguments[0])}, {self(arguments[1])})"
        if op in ("clamp", "hardtanh"):
            low, high = (*arguments[1:], None, None)[:2]
            op = "clamp" if None not in (low, high) else "clamp_min" if high is None else "clamp_max"
            arguments = [arguments[0], *(a for a in (low, high) if a is not None)]
        if op == "softplus":
            arguments += (1.0, 20.0)[len(arguments) - 1 :]
        if op == "leaky_relu" and len(arguments) == 1:
            arguments = [arguments[0], 0.01]
        if op not in _C:
            raise TraceError(f"{node.where}: kernels do not know the operation {op}")
        texts = []
        for place, argument in enumerate(arguments):
            if isinstance(argument, Node):
                texts.append(self(argument))
            elif place in _NUMBERS.get(op, ()) or isinstance(argument, bool):
                texts.append(f"(real){float(argument)!r}")
            elif argument is None:
                texts.append("")
            else:
                texts.append(self(Node("fill", (float(argument),))))
        return _C[op].format(*texts)

    def _fresh(self, wanted: str) -> str:
        wanted = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in wanted)
        wanted = f"{wanted}_" if wanted in _RESERVED else wanted
        name, number = wanted if wanted != "v" else "v1", 1
        while name in self.taken or name.startswith("v_"):
            number += 1
            name = f"{wanted.rstrip('_')}{number}" if wanted[-1:] != "_" else f"{wanted}{number}"
        self.taken.add(name)
        return name


def _forward(cell: Cell, program: Program) -> tuple[str, list[Node]]:
    write = _Writer(cell, program)
    keep = _kept(program)
    for k, node in enumerate(program.new):
        text = write(node)
        write.lines.append(f"    n[{k}] = {text};")
    for k, node in enumerate(keep):
        text = write(node)
        write.lines.append(f"    keep[{k}] = {text};")
    return "\n".join(write.lines) + "\n", keep


def _backward(cell: Cell, program: Program, columns: Sequence[Node | None], keep: Sequence[Node]) -> str:
    write = _Writer(cell, program)
    write.inputs["s_h"] = "s[0]"
    for k, node in enumerate(keep):
        name = write._fresh(node.letter or node.op)
        write.names[id(node)] = name
        write.lines.append(f"    const V {name} = keep[{k}];")
    for target, nodes in (("gates", columns), ("old", program.state_grads), ("sum", program.unit_grads)):
        for k, value in enumerate(nodes):
            text = write(value)
            write.lines.append(f"    {target}[{k}] = {text};")
    return "\n".join(write.lines) + "\n"


def _kept(program: Program) -> list[Node]:
    """The values that forward keeps for backward: as few as can be without costly work done twice.

    What backward needs of forward's values is made anew from others where it can be; the old h is in y.
    """
    forward = {id(n): n for n in _ancestors(program.new)}
    needed: dict[int, Node] = {}
    todo = [n for n in (*program.input_grads, *program.hidden_grads, *program.state_grads, *program.unit_grads) if n]
    seen: set[int] = set()
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if id(node) in forward:
            needed[id(node)] = node
        else:
            todo += [a for a in node.arguments if isinstance(a, Node)]
    kept: dict[int, Node] = {}

    def known(node: Node) -> bool:
        if id(node) in kept or node.op in ("s_h", "fill") or node.kind == "unit":
            return True
        parts = [a for a in node.arguments if isinstance(a, Node)]
        return bool(parts) and node.op not in _SLOW and all(map(known, parts))

    def keep(node: Node) -> None:
        if known(node):
            return
        if node.op in _MASKS:  # what is compared is kept, not the outcome
            for argument in node.arguments:
                if isinstance(argument, Node):
                    keep(argument)
        else:
            kept[id(node)] = node

    for node in forward.values():  # those that others are made of come first
        if id(node) in needed:
            keep(node)
    return list(kept.values())


def _ancestors(nodes: Sequence[Node]) -> list[Node]:
    """All that the nodes are made of, and the nodes, in an order in which they can be computed."""
    order: dict[int, Node] = {}

    def visit(node: Node) -> None:
        if id(node) not in order:
            for argument in node.arguments:
                if isinstance(argument, Node):
                    visit(argument)
            order[id(node)] = node

    for node in nodes:
        visit(node)
    return list(order.values())
