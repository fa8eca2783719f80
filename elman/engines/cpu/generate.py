"""C from a cell's program: what one step does, forward and backward, and the numbers that the kernel around it needs.

A step is cut into phases where it reads across units: at totals over the units of a row, and at products that the
step asks for itself. What a phase leaves for a later one waits in ``temp`` (values of a unit) and ``scalar`` (of a
row). A pointwise cell has one phase.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from elman.cells import Cell
from elman.engines.compiler.program import Node, Program, ancestors
from elman.engines.cpu.expressions import MASKS, SLOW, Writer

#: Operations that read all units of a row: their value is there in the next phase.
_ACROSS = {"total", "most", "least", "before", "inner", "inner_back"}
#: Those of them that gather values of all units: how, in C, and what they start from.
_GATHER = {
    "total": ("SUM", "0"),
    "most": ("MOST", "-INFINITY"),
    "least": ("LEAST", "INFINITY"),
    "before": ("BEFORE", "0"),
}
#: Done twice rather than kept for a later phase, where what they need is at hand.
_CHEAP = {"add", "sub", "rsub", "mul", "neg"}


def source(cell: Cell, program: Program, dtype: str) -> str:
    """The whole text of a kernel, for dtype float32, bfloat16 or float64."""
    define = {"float32": "", "bfloat16": "#define BFLOAT16\n", "float64": "#define FLOAT64\n"}[dtype]
    tiles = "\n".join(_tiles(bool(cell.hidden_gates), bool(cell.inner_gates)))
    parts = [_read("product.h").replace("//TILES", tiles), *map(_read, ("job.h", "forward.c", "backward.c"))]
    return "\n".join(
        [f"/* {type(cell).__name__}: {dtype} */", define + _read("vector.h"), cell_source(cell, program), *parts]
    )


@functools.cache
def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def columns(program: Program) -> list[Node | None]:
    """The different gradients of gates, each once."""
    return list(dict.fromkeys((*program.input_grads, *program.hidden_grads)))


def cell_source(cell: Cell, program: Program) -> str:
    """The part that is the cell's own."""
    keep = _kept(program)
    rows, scalars = [n for n in keep if n.kind != "scalar"], [n for n in keep if n.kind == "scalar"]
    gates = columns(program)
    forward = _Phases(_inputs(cell, program, "xsh"), program, program.new, [*keep, *program.inner], {})
    at_hand = {n: f"keep[{k}]" for k, n in enumerate(rows)}
    kept_scalars = {n: f"keep[{k}]" for k, n in enumerate(scalars)}
    given = _inputs(cell, program, "d") | {program.inputs["s_h"]: "s[0]"} | at_hand
    other = [n for n in (*gates, *program.unit_grads) if n]
    backward = _Phases(given, program, program.state_grads, [*other, *program.inner], kept_scalars)
    doc = "\n".join(" * " + line.strip() for line in (type(cell).__doc__ or "").strip().splitlines())
    column = {grad: k for k, grad in enumerate(gates)}

    def numbers(grads: Iterable[int]) -> str:
        return ", ".join(map(str, grads)) or "0"

    def at(phases: _Phases, nodes: Iterable[Node | None]) -> str:
        return numbers(0 if n is None else phases.level(n) for n in nodes)

    inner_back = {n.arguments[0]: backward.level(n) for n in backward.nodes if n.op == "inner_back"}
    inner_grads = program.hidden_grads[len(cell.hidden_gates) :]
    return f"""/* {type(cell).__name__}
 *
{doc.replace("*/", "* /")}
 */
#define G_IN {len(cell.inputs)} /* {", ".join(cell.inputs)} */
#define G_HID {len(cell.hidden_gates)} /* {", ".join(cell.hidden_gates)} */
#define G_MAX {max(len(cell.inputs), len(cell.hidden_gates))}
#define INNER {len(cell.inner_gates)} /* {", ".join(cell.inner_gates)} */
#define STATES {len(cell.state)} /* {", ".join(cell.state)} */
#define UNITS {len(program.units)}
#define SUMS {len(program.unit_grads)}
#define SAVED {len(rows)}
#define SAVED_ROW {len(scalars)}
#define COLS {len(gates)}
static const i64 COL_IN[G_IN] = {{{numbers(column[g] for g in program.input_grads)}}};
static const i64 COL_HID[G_HID + INNER + 1] = {{{numbers(column[g] for g in program.hidden_grads)}}};
/* the phases in which values are there: kept ones, totals, products of inner gates, gradients */
{_definitions("", forward)}
{_definitions("_BACK", backward)}
static const int SAVED_AT[SAVED + 1] = {{{at(forward, rows)}}};
static const int SAVED_ROW_AT[SAVED_ROW + 1] = {{{at(forward, scalars)}}};
static const int INNER_AT[INNER + 1] = {{{numbers(forward.level(n) + 1 for n in program.inner)}}};
static const int INNER_BACK_AT[INNER + 1] = {{{numbers(inner_back.get(g, -1) for g in inner_grads)}}};
static const int COL_AT[COLS] = {{{at(backward, gates)}}}, SUM_AT[SUMS + 1] = {{{at(backward, program.unit_grads)}}};

typedef struct {{           /* what there is beside the values of one unit */
    const V *product;      /* of inner gates */
    const V *scalar;       /* of the row, from earlier phases */
    V *temp, *total;       /* for later phases; sums over the units of a row, so far */
    V *inner;              /* what inner gates are to be multiplied with */
    real H;
    i64 left;              /* units from this one on */
}} Across;

/* the gates' inputs x and h, the state s, values per unit w -> the new state n, and what backward needs */
INLINE void step(const int phase, const V *x, const V *h, const V *s, const V *w, V *n, V *keep, const Across *a) {{
    (void)h, (void)s, (void)w, (void)keep, (void)a;
{forward.steps({"n": program.new}, {"keep": rows, "a->inner": program.inner})}}}

/* the values of a row: from totals -> for its units, and for backward */
INLINE void step_row(const int phase, const V *total, V *scalar, V *keep, const Across *a) {{
    (void)phase, (void)total, (void)scalar, (void)keep, (void)a;
{forward.rows({"keep": scalars})}}}

/* what was kept, the old h, and the gradient d of the new state
   -> of the gates (by column), of the old state, and of values per unit (to be summed) */
INLINE void step_back(const int phase, const V *keep, const V *s, const V *w, const V *d, V *gates, V *old, V *sum,
                      const Across *a) {{
    (void)keep, (void)s, (void)w, (void)sum, (void)a;
{backward.steps({"old": program.state_grads}, {"gates": gates, "sum": program.unit_grads, "a->inner": program.inner})}}}

INLINE void step_back_row(const int phase, const V *total, V *scalar, const V *keep, const Across *a) {{
    (void)phase, (void)total, (void)scalar, (void)keep, (void)a;
{backward.rows({})}}}
"""


def _tiles(hidden: bool, inner: bool) -> Iterator[str]:
    """One product for each number of rows that may be taken at a time."""
    kinds = [("x", "NV_X", "BY_ROW"), ("n", "NV_N", "BY_ROW"), ("w", "NV_N", "BY_COLUMN")]
    kinds += [("h", "NV_H", "BY_ROW")] * hidden + [("i", "UNIT_VECTORS", "BY_ROW")] * inner
    for kind, nv, at in kinds:
        for rows in range(1, 13):
            yield f"#if ROWS({nv}) >= {rows}"
            one = rows == 1 and at == "BY_ROW"
            yield f"TILE_1(tile_{kind}_1, {nv})" if one else f"TILE(tile_{kind}_{rows}, {rows}, {nv}, {at})"
            yield f"#else\n#define tile_{kind}_{rows} 0\n#endif"
        yield f"static Tile *const tiles_{kind}[] = {{0, {', '.join(f'tile_{kind}_{r}' for r in range(1, 13))}}};"


def _inputs(cell: Cell, program: Program, kinds: str) -> dict[Node, str]:
    """The C of what a step is given."""
    bundles = {"x": cell.inputs, "h": cell.hidden_gates, "s": cell.state, "d": cell.state}
    names = {f"{kind}_{name}": f"{kind}[{k}]" for kind in kinds for k, name in enumerate(bundles[kind])}
    given = {node: names[op] for op, node in program.inputs.items() if op in names}
    return given | {node: f"w[{k}]" for k, node in enumerate(program.units)}


def _definitions(suffix: str, phases: _Phases) -> str:
    totals = ", ".join(str(phases.level(n)) for n in phases.totals) or "0"
    hows = ", ".join(_GATHER[n.op][0] for n in phases.totals) or "0"
    each = "; ".join(f"f({k}, __VA_ARGS__)" for k in range(phases.count))
    return f"""#define PHASES{suffix} {phases.count}
#define EACH_PHASE{suffix}(f, ...) {each}
#define TEMPS{suffix} {len(phases.temps)}
#define SCALARS{suffix} {len(phases.scalars)}
#define TOTALS{suffix} {len(phases.totals)}
static const int TOTAL{suffix}_AT[TOTALS{suffix} + 1] = {{{totals}}};
static const int TOTAL{suffix}_HOW[TOTALS{suffix} + 1] = {{{hows}}};"""


class _Phases:
    """A step, cut where it reads across units.

    Args:
        given: the C of what is there at the start.
        last: nodes that are wanted in the last phase; ``soon``: others, each wanted when it can be had.
        scalars: the C of values of a row that are there at the start.
    """

    def __init__(
        self, given: dict[Node, str], program: Program, last: Sequence[Node | None], soon: Sequence[Node],
        scalars: dict[Node, str],
    ) -> None:  # fmt: skip
        self.given, self.kept, self.compared = given, scalars, _compared(program)
        self.levels: dict[Node, int] = dict.fromkeys([*given, *scalars], 0)
        self.nodes: dict[Node, None] = {}
        for node in (*last, *soon):
            if node is not None:
                self._visit(node)
        self.count = max(self.levels.values(), default=0) + 1
        self.totals = [n for n in self.nodes if n.op in _GATHER]
        self.scalars = [n for n in self.nodes if n.kind == "scalar" and n.op != "fill"]
        made = [n for n in self.nodes if n not in given and n not in scalars]
        left = {a for n in made for a in n.parents if self._left(a, self._use(n))}
        left |= {n for n in last if n and self._left(n, self.count - 1)}
        self.temps = [n for n in self.nodes if n in left]

    def _visit(self, node: Node) -> None:
        if node in self.nodes:
            return
        if node not in self.given and node not in self.kept:
            for parent in node.parents:
                self._visit(parent)
            level = max((self.levels[p] for p in node.parents), default=0)
            self.levels[node] = level + 1 if node.op in _ACROSS else level
        self.nodes[node] = None

    def level(self, node: Node) -> int:
        """The phase in which a value is there."""
        return self.levels[node]

    def _use(self, node: Node) -> int:
        """The phase in which what a node is made of is needed."""
        return self.levels[node] - (node.op in _ACROSS)

    def _passing(self, node: Node) -> bool:
        """Whether a value is there in one phase only: what comes with the step in the first, a product in its own."""
        if node in self.given:
            return self.given[node][:1] in ("h", "d")
        return node.op in ("inner", "inner_back")

    def _anywhere(self, node: Node) -> bool:
        """Whether a value is at hand in every later phase as well."""
        return node.kind in ("scalar", "unit") or node.op == "fill" or (node in self.given and not self._passing(node))

    def _again(self, node: Node) -> bool:
        return node.op in _CHEAP and node not in self.compared and all(map(self._anywhere, node.parents))

    def _left(self, node: Node, phase: int) -> bool:
        """Whether a value must be left for this phase by an earlier one."""
        return self.levels[node] < phase and not self._anywhere(node) and not self._again(node)

    def steps(self, last: dict[str, Sequence[Node | None]], soon: dict[str, Sequence[Node | None]]) -> str:
        """The statements for one unit, phase by phase: arrays by name, of values wanted at the end, or when there."""
        blocks = []
        for phase in range(self.count):
            write = Writer(self._at_hand(phase))
            for k, before in enumerate(self.totals):
                if before.op == "before" and self._use(before) == phase:
                    (scan,) = before.parents
                    write.names[scan] = name = write.fresh("scan")
                    value = write(scan.parents[0])
                    write.lines.append(f"const V {name} = v_scan({value}, a->total + {k}, a->left);")
            for name, nodes in soon.items():
                for k, node in enumerate(nodes):
                    if phase == (0 if node is None else self.levels[node]):
                        _assign(write, f"{name}[{k}]", node)
            for k, total in enumerate(self.totals):
                if self._use(total) == phase and total.op != "before":
                    parts = [write(part) for part in total.parents]
                    write.lines.append(f"a->total[{k}] = {_gathered(total.op, f'a->total[{k}]', parts)};")
            for k, node in enumerate(self.temps):
                if self.levels[node] == phase:
                    _assign(write, f"a->temp[{k}]", node)
            for name, nodes in last.items() if phase == self.count - 1 else ():
                for k, node in enumerate(nodes):
                    _assign(write, f"{name}[{k}]", node)
            blocks.append(write.lines)
        return _blocks(blocks)

    def rows(self, soon: dict[str, Sequence[Node]]) -> str:
        """The statements for one row."""
        blocks = []
        for phase in range(self.count):
            given = {n: f"scalar[{k}]" for k, n in enumerate(self.scalars) if self.levels[n] < phase}
            given |= {n: f"total[{k}]" for k, n in enumerate(self.totals) if self.levels[n] == phase}
            write = Writer(given | (self.kept if phase == 0 else {}))
            for k, node in enumerate(self.scalars):
                if self.levels[node] == phase:
                    _assign(write, f"scalar[{k}]", node)
            for name, nodes in soon.items():
                for k, node in enumerate(nodes):
                    if self.levels[node] == phase:
                        _assign(write, f"{name}[{k}]", node)
            blocks.append(write.lines)
        return _blocks(blocks)

    def _at_hand(self, phase: int) -> dict[Node, str]:
        """The C of values that a phase need not compute."""
        at_hand = {n: text for n, text in self.given.items() if phase == 0 or not self._passing(n)}
        at_hand |= {n: f"a->scalar[{k}]" for k, n in enumerate(self.scalars)}
        at_hand |= {n: f"a->temp[{k}]" for k, n in enumerate(self.temps) if self.levels[n] < phase}
        products = [n for n in self.nodes if n.op in ("inner", "inner_back") and n not in self.given]
        return at_hand | {n: f"a->product[{_gate(n)}]" for n in products if self.levels[n] == phase}


def _gathered(op: str, so_far: str, parts: list[str]) -> str:
    """A total, and the values of some more units."""
    if op == "total":
        return f"{so_far} + first({' + '.join(parts)}, a->left)"
    both = "v_maximum" if op == "most" else "v_minimum"
    value = functools.reduce(lambda a, b: f"{both}({a}, {b})", parts)
    return f"{both}({so_far}, first_or({value}, a->left, {_GATHER[op][1]}))"


def _compared(program: Program) -> set[Node]:
    """Values that are looked for among those of a row: made anew, they might be rounded otherwise, and not be found."""
    found: set[Node] = set()
    for node in ancestors([*program.new, *program.inner, *program.grads]):
        if node.op in MASKS and any(p.op in ("most", "least") for p in node.parents):
            for part in node.parents:
                found |= {part, *(part.parents if part.op in ("abs", "neg") else ())}
    return found


def _assign(write: Writer, target: str, node: Node | None) -> None:
    text = write(node)
    write.lines.append(f"{target} = {'(V)' if node and node.op in MASKS else ''}{text};")


def _gate(node: Node) -> int:
    return int(node.arguments[1])


def _blocks(phases: list[list[str]]) -> str:
    if len(phases) == 1:
        return "    (void)phase;\n" + "".join(f"    {line}\n" for line in phases[0])
    return "".join(
        f"    if (phase == {k}) {{\n" + "".join(f"        {line}\n" for line in lines) + "    }\n"
        for k, lines in enumerate(phases)
        if lines
    )


def _kept(program: Program) -> list[Node]:
    """The values that forward keeps for backward: as few as can be without costly work done twice.

    What backward needs of forward's values is made anew from others where it can be; the old h is in y.
    """
    given = [n for name, n in program.inputs.items() if not name.startswith("d_")]
    products = [n for n in ancestors(program.grads) if n.op == "inner"]  # a gradient may read what nothing else does
    forward = dict.fromkeys(ancestors([*program.new, *program.inner, *given, *products]))
    needed: set[Node] = set()
    todo = [n for n in (*program.grads, *program.inner) if n]
    seen: set[Node] = set()
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in forward:
            needed.add(node)
        else:
            todo += node.parents
    kept: dict[Node, None] = {}
    compared = _compared(program)

    def known(node: Node) -> bool:
        if node in kept or node.op in ("s_h", "fill") or node.kind == "unit":
            return True
        if node in compared or node.op in SLOW | _ACROSS | {"scan"}:
            return False
        return node.op == "index" or (bool(node.parents) and all(map(known, node.parents)))

    def keep(node: Node) -> None:
        if known(node):
            return
        if node.op in MASKS:  # what is compared is kept, not the outcome
            for parent in node.parents:
                keep(parent)
        else:
            kept[node] = None

    for node in forward:  # those that others are made of come first
        if node in needed:
            keep(node)
    return list(kept)
