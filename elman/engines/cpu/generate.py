"""Print the C of a kernel: the phases of a cell's step and of its gradient, in the code that all kernels share."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

from elman.cells import Cell
from elman.engines.compiler import Accumulate, Array, Node, Phase, Phases, Plan, PrefixSum, Slot, Store
from elman.engines.compiler.operations import BOOLEAN
from elman.engines.cpu.expressions import Writer

#: The name in C of each reduction, and the C of its start value.
_REDUCTIONS = {
    "total": ("SUM", "0"),
    "amax": ("MOST", "-INFINITY"),
    "amin": ("LEAST", "INFINITY"),
    "before": ("BEFORE", "0"),
}
#: The names in C of the arrays of a step.
_ARRAYS = {
    Array.INPUT: "x",
    Array.HIDDEN: "h",
    Array.STATE: "s",
    Array.UNIT: "w",
    Array.GRADIENT: "d",
    Array.PRODUCT: "a->product",
    Array.NEW: "n",
    Array.KEPT: "keep",
    Array.KEPT_ROW: "keep",
    Array.OLD_GRADIENT: "old",
    Array.GATE_GRADIENT: "gates",
    Array.UNIT_GRADIENT: "sum",
    Array.INNER: "a->inner",
    Array.TEMP: "a->temp",
    Array.TOTAL: "a->total",
    Array.SCALAR: "a->scalar",
}
#: The same in the functions that compute the values of a row.
_ROW_ARRAYS = _ARRAYS | {Array.TOTAL: "total", Array.SCALAR: "scalar"}


def source(cell: Cell, plan: Plan, dtype: str) -> str:
    """Return the whole C of a kernel.

    Args:
        cell: the cell, for names and comments.
        plan: the plan of its program.
        dtype: "float32", "bfloat16" or "float64".
    """
    define = {"float32": "", "bfloat16": "#define BFLOAT16\n", "float64": "#define FLOAT64\n"}[dtype]
    tiles = "\n".join(_tiles(bool(cell.hidden_gates), bool(cell.inner_gates)))
    shared = ("int8.h", "half.h", "amx.h", "job.h", "packing.c", "forward.c", "gradient.h", "backward.c")
    parts = [_read("product.h").replace("//TILES", tiles), *map(_read, shared)]
    return "\n".join(
        [f"/* {type(cell).__name__}: {dtype} */", define + _read("vector.h"), cell_source(cell, plan), *parts]
    )


@functools.cache
def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def cell_source(cell: Cell, plan: Plan) -> str:
    """Return the part of the C that belongs to the cell: constants, and one step forward and backward."""
    program, forward, backward = plan.program, plan.forward, plan.backward
    gates = program.gate_grads
    column = {grad: k for k, grad in enumerate(gates)}
    sums = _levels(backward, program.unit_grads)
    doc = "\n".join(" * " + line.strip() for line in (type(cell).__doc__ or "").strip().splitlines())
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
#define SAVED {len(plan.kept)}
#define SAVED_ROW {len(plan.kept_rows)}
#define COLS {len(gates)}
static const i64 COL_IN[G_IN] = {{{_list(column[g] for g in program.input_grads)}}};
static const i64 COL_HID[G_HID + INNER + 1] = {{{_list(column[g] for g in program.hidden_grads)}}};
/* the phases in which values are there: kept ones, totals, products of inner gates, gradients */
{_definitions("", forward)}
{_definitions("_BACK", backward)}
static const int SAVED_AT[SAVED + 1] = {{{_levels(forward, plan.kept)}}};
static const int SAVED_ROW_AT[SAVED_ROW + 1] = {{{_levels(forward, plan.kept_rows)}}};
static const int INNER_AT[INNER + 1] = {{{_list(plan.inner_phases)}}};
static const int INNER_BACK_AT[INNER + 1] = {{{_list(plan.inner_back_phases)}}};
static const int COL_AT[COLS] = {{{_levels(backward, gates)}}}, SUM_AT[SUMS + 1] = {{{sums}}};

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
{_statements(forward.units(), _ARRAYS)}}}

/* the values of a row: from totals -> for its units, and for backward */
INLINE void step_row(const int phase, const V *total, V *scalar, V *keep, const Across *a) {{
    (void)phase, (void)total, (void)scalar, (void)keep, (void)a;
{_statements(forward.rows(), _ROW_ARRAYS)}}}

/* what was kept, the old h, and the gradient d of the new state
   -> of the gates (by column), of the old state, and of values per unit (to be summed) */
INLINE void step_back(const int phase, const V *keep, const V *s, const V *w, const V *d, V *gates, V *old, V *sum,
                      const Across *a) {{
    (void)keep, (void)s, (void)w, (void)sum, (void)a;
{_statements(backward.units(), _ARRAYS)}}}

INLINE void step_back_row(const int phase, const V *total, V *scalar, const V *keep, const Across *a) {{
    (void)phase, (void)total, (void)scalar, (void)keep, (void)a;
{_statements(backward.rows(), _ROW_ARRAYS)}}}
"""


def _list(numbers: Iterable[int]) -> str:
    """Return the C of an array's elements. C has no empty arrays."""
    return ", ".join(map(str, numbers)) or "0"


def _levels(phases: Phases, nodes: Iterable[Node | None]) -> str:
    return _list(0 if node is None else phases.level(node) for node in nodes)


def _tiles(hidden: bool, inner: bool) -> Iterator[str]:
    """Yield the C of a product for each number of rows that it may process at a time."""
    kinds = [("x", "NV_X", "BY_ROW"), ("n", "NV_N", "BY_ROW"), ("w", "NV_N", "BY_COLUMN")]
    kinds += [("h", "NV_H", "BY_ROW")] * hidden + [("i", "UNIT_VECTORS", "BY_ROW")] * inner
    for kind, nv, at in kinds:
        for rows in range(1, 13):
            yield f"#if ROWS({nv}) >= {rows}"
            one = rows == 1 and at == "BY_ROW"
            yield f"TILE_1(tile_{kind}_1, {nv})" if one else f"TILE(tile_{kind}_{rows}, {rows}, {nv}, {at})"
            yield f"#else\n#define tile_{kind}_{rows} 0\n#endif"
        yield f"static Tile *const tiles_{kind}[] = {{0, {', '.join(f'tile_{kind}_{r}' for r in range(1, 13))}}};"


def _definitions(suffix: str, phases: Phases) -> str:
    names = ", ".join(_REDUCTIONS[n.op][0] for n in phases.totals) or "0"
    each = "; ".join(f"f({k}, __VA_ARGS__)" for k in range(phases.count))
    return f"""#define PHASES{suffix} {phases.count}
#define EACH_PHASE{suffix}(f, ...) {each}
#define TEMPS{suffix} {len(phases.temps)}
#define SCALARS{suffix} {len(phases.scalars)}
#define TOTALS{suffix} {len(phases.totals)}
static const int TOTAL{suffix}_AT[TOTALS{suffix} + 1] = {{{_levels(phases, phases.totals)}}};
static const int TOTAL{suffix}_HOW[TOTALS{suffix} + 1] = {{{names}}};"""


def _statements(phases: list[Phase], arrays: dict[Array, str]) -> str:
    """Return the C of all phases; ``arrays`` are the names of the arrays in the function."""
    blocks = [_block(phase, arrays) for phase in phases]
    if len(blocks) == 1:
        return "    (void)phase;\n" + "".join(f"    {line}\n" for line in blocks[0])
    return "".join(
        f"    if (phase == {k}) {{\n" + "".join(f"        {line}\n" for line in lines) + "    }\n"
        for k, lines in enumerate(blocks)
        if lines
    )


def _block(phase: Phase, arrays: dict[Array, str]) -> list[str]:
    """Return the statements of one phase."""

    def element(slot: Slot) -> str:
        return f"{arrays[slot.array]}[{slot.number}]"

    write = Writer({node: element(slot) for node, slot in phase.available.items()})
    for instruction in phase.instructions:
        slot, node = instruction
        if isinstance(instruction, Store):
            text = write(node)
            write.lines.append(f"{element(slot)} = {'(V)' if node and node.op in BOOLEAN else ''}{text};")
        elif isinstance(instruction, PrefixSum):
            name = write.name(instruction.node, "scan")
            value = write(instruction.node.parents[0])
            write.lines.append(f"const V {name} = v_scan({value}, {arrays[slot.array]} + {slot.number}, a->left);")
        elif isinstance(instruction, Accumulate):
            parts = [write(part) for part in instruction.node.parents]
            write.lines.append(f"{element(slot)} = {_accumulated(instruction.node.op, element(slot), parts)};")
    return write.lines


def _accumulated(op: str, total: str, parts: list[str]) -> str:
    """Return the C of a reduction that is combined with the values of more units."""
    if op == "total":
        return f"{total} + first({' + '.join(parts)}, a->left)"
    function = "v_maximum" if op == "amax" else "v_minimum"
    value = functools.reduce(lambda a, b: f"{function}({a}, {b})", parts)
    return f"{function}({total}, first_or({value}, a->left, {_REDUCTIONS[op][1]}))"
