"""Print the C of a cell with a matrix memory: a step of a head and its gradient, as loops over units and keys."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from elman.engines.compiler.memory import HEAD, KEYS, MEMORY, UNITS, Kind, MemoryProgram
from elman.engines.compiler.operations import BOOLEAN
from elman.engines.compiler.program import Node, TraceError, ancestors
from elman.engines.cpu.expressions import Writer
from elman.engines.memory import Layout

#: For each reduction, the C of its start value, of its accumulation, and of combining the lanes of a vector, and of
#: each of K vectors.
_REDUCTIONS = {
    "sum": ("all(0)", "{0} + {1}", "lanes_sum", "lanes_sums"),
    "amax": ("all(-INFINITY)", "v_maximum({0}, {1})", "lanes_most", "lanes_mosts"),
}

#: Names that the functions use beside those of values.
_TAKEN = frozenset(
    """
    i k u v b ds dx keep K UP KP BLOCK GATES PARTS GATE PART GATE_SIZE GATES_INSIDE STATE KEPT CHUNK Place Job Team i64
    among halves lanes_sum lanes_sums lanes_most lanes_mosts BYTES REGISTERS NAN INFINITY Source whole
    """.split()  # noqa: SIM905
)
#: The largest stack of a step in bytes.
_STACK = 1 << 18


def source(layout: Layout, program: MemoryProgram, dtype: str) -> str:
    """Return the whole C of a kernel.

    Args:
        layout: the cell and its sizes, for which the kernel is made.
        program: the program of its step.
        dtype: "float32" or "float64".
    """
    cell = layout.cell
    folder = Path(__file__).parent
    head, lanes, shared = ((folder / name).read_text(encoding="utf-8") for name in ("vector.h", "lanes.h", "memory.c"))
    gates, parts = _Places(layout.gates), _Places(layout.parts)
    state = dict(zip(cell.parts, parts.inside, strict=True))
    given = {f"x_{name}": f"x + {at}" for name, at in zip(cell.gates, gates.inside, strict=True)}
    given |= {f"s_{name}": f"s + {at}" for name, at in state.items()}
    kept = _kept(program)
    sizes = [(layout.U if units else 1, layout.K if keys else 1) for units, keys in map(program.kind, kept)]
    keep = _Places(sizes)
    outputs: list[tuple[Node | None, str]] = [
        (node, f"n + {at}") for node, at in zip(program.new, parts.inside, strict=True)
    ]
    outputs += [(node, f"keep + {at}") for node, at in zip(kept, keep.inside, strict=True)]
    new = _Function(program, {program.inputs[name]: at for name, at in given.items()}, layout.U, layout.K).body(
        outputs, [*layout.parts, *sizes]
    )
    given |= {f"d_{name}": f"d + {at}" for name, at in state.items()}
    places = {program.inputs[name]: at for name, at in given.items()}
    places |= {node: f"keep + {at}" for node, at in zip(kept, keep.inside, strict=True)}
    outputs = [(node, f"dx + {at}") for node, at in zip(program.gate_grads, gates.inside, strict=True)]
    outputs += [(node, f"ds + {at}") for node, at in zip(program.state_grads, parts.inside, strict=True)]
    old = _Function(program, places, layout.U, layout.K).body(outputs, [*layout.gates, *layout.parts])
    doc = "\n".join(" * " + line.strip() for line in (type(cell).__doc__ or "").strip().splitlines())
    return f"""/* {type(cell).__name__}: {dtype} */
{"#define FLOAT64" if dtype == "float64" else ""}
{head}
/* {type(cell).__name__}
 *
{doc.replace("*/", "* /")}
 */
#define U {layout.U}
#define K {layout.K}
#define UP ((U + VL - 1) / VL * VL)
#define BLOCK (UP % (4 * VL) == 0 ? 4 : UP % (2 * VL) == 0 ? 2 : 1) /* vectors of units at a time */
#define KP ((K + VL - 1) / VL * VL)
#define GATES {len(layout.gates)} /* {", ".join(cell.gates)} */
#define PARTS {len(layout.parts)} /* {", ".join(cell.parts)} */
#define GATE_SIZE {sum(u * k for u, k in layout.gates)}
#define GATES_INSIDE ({gates.size})
#define STATE ({parts.size})
#define KEPT ({keep.size})

typedef struct {{
    i64 inside, outside, size; /* where it begins in a head and in a row of gates; its numbers in a tensor */
    int units, keys;           /* whether it has one number for each */
}} Place;
static const Place GATE[GATES] = {{{gates.table}}}, PART[PARTS] = {{{parts.table}}};

{lanes}
/* the gates x, the state s -> the new state n, and the sums that step_back needs */
static void step(const real *restrict x, const real *restrict s, real *restrict n, real *restrict keep) {{
{new}}}

/* the same, and the gradient d of the new state -> the gradients of the gates and of the state */
static void step_back(const real *restrict x, const real *restrict s, const real *restrict keep,
                      const real *restrict d, real *restrict dx, real *restrict ds) {{
{old}}}

{shared}"""


def _kept(program: MemoryProgram) -> list[Node]:
    """Return the sums of a step that its gradient reads.

    Maxima are computed again: their gradient compares them with values that are computed again, too, and products and
    sums may be contracted otherwise there.
    """
    read = set(ancestors([*program.gate_grads, *program.state_grads]))
    return [node for node in ancestors(program.new) if node.op == "sum" and node in read]


class _Places:
    """Where values begin, inside a head and in a row of a tensor."""

    def __init__(self, sizes: Iterable[tuple[int, int]]) -> None:
        self.inside: list[str] = []
        rows, at, outside = [], "0", 0
        for u, k in sizes:
            self.inside.append(at)
            units, keys = u > 1, k > 1
            rows.append(f"{{{at}, {outside}, {u * k}, {int(units)}, {int(keys)}}}")
            size = "K * UP" if units and keys else "UP" if units else "KP" if keys else "VL"
            at, outside = size if at == "0" else f"{at} + {size}", outside + u * k
        self.size, self.table = at, ", ".join(rows)


class _Function:
    """Writes the body of a function that computes nodes of a program.

    Values are computed in the order of their levels: a value that a sum or a maximum over units or keys leads to is
    one level above what is combined. At each level there is a part for the numbers of the head, a loop over keys, a
    loop over units, and one over the memory. Values of the memory are not stored between levels, but computed again.

    Args:
        program: the program.
        given: the C of the address of each value that is there.
        U: the units of a head.
        K: its keys.
    """

    def __init__(self, program: MemoryProgram, given: dict[Node, str], U: int, K: int) -> None:
        self.program, self.given, self.sizes = program, given, (U, K)
        self.kinds: dict[Node, Kind] = {}
        self.levels: dict[Node, int] = {}
        self.places: dict[Node, str] = {}  # the address of values of units and of keys
        self.lines: list[str] = []

    def body(self, outputs: list[tuple[Node | None, str]], sizes: list[tuple[int, int]]) -> str:
        """Return the body.

        Args:
            outputs: the nodes, None for 0, and the C of the address at which each is stored.
            sizes: of each (U or 1, K or 1).
        """
        wanted = [(node, to, (u > 1, k > 1)) for (node, to), (u, k) in zip(outputs, sizes, strict=True)]
        order = ancestors([node for node, _, _ in wanted], self.given)
        for node in order:
            kind = self.kinds[node] = self.program.kind(node)
            if node in self.given:
                self.levels[node], self.places[node] = 0, self.given[node]
                continue
            below = max((self.levels[p] for p in node.parents), default=0)
            self.levels[node] = below + 1 if node.op in _REDUCTIONS else below
            if kind in (UNITS, KEYS) and node.op not in BOOLEAN:
                self.places[node] = f"value__{len(self.places)}"
                self.lines.append(f"real {self.places[node]}[{'UP' if kind == UNITS else 'KP'}];")
        self.head = Writer({n: f"get({at})" for n, at in self.places.items() if self.kinds[n] == HEAD})
        self.head.taken |= _TAKEN
        for node in self.head.given:
            self.head(node)
        self._flush()
        matrices = [(node, to) for node, to, kind in wanted if kind == MEMORY and node is not None]
        for level in range(max(self.levels.values(), default=0) + 1):
            self._level(level, order, [m for m in matrices if self.levels[m[0]] == level])
        for result, to, kind in wanted:
            if result is None or kind != MEMORY:
                self._output(result, to, kind)
        self._check_stack()
        return "".join(f"    {line}\n" for line in self.lines)

    def _check_stack(self) -> None:
        """Raise a TraceError if the values of units and keys take too much of the stack of a thread."""
        U, K = self.sizes
        arrays = [self.kinds[n] for n in self.places if n not in self.given]
        vectors = sum(n.op in _REDUCTIONS and k == KEYS and n not in self.given for n, k in self.kinds.items())
        if 8 * (arrays.count(UNITS) * U + arrays.count(KEYS) * K) + 64 * vectors * K > _STACK:
            raise TraceError(
                f"heads of {U} units and {K} keys are too large for a kernel; use more heads or fewer keys"
            )

    def _level(self, level: int, order: list[Node], matrices: list[tuple[Node, str]]) -> None:
        here = [n for n in order if self.levels[n] == level and n not in self.given and n.op != "fill"]
        for node in here:
            if self.kinds[node] == HEAD and node.op not in _REDUCTIONS:
                self.head(node)
                self._flush()
        above = [n for n in order if n.op in _REDUCTIONS and n not in self.given and self.levels[n.parents[0]] == level]
        for kind, count in ((KEYS, "K"), (UNITS, "U")):
            computed = [n for n in here if self.kinds[n] == kind and n in self.places and n.op not in _REDUCTIONS]
            combined = [n for n in above if self.kinds[n.parents[0]] == kind]
            if computed or combined:
                self._loop(computed, combined, count)
        combined = [n for n in above if self.kinds[n.parents[0]] == MEMORY]
        if matrices or combined:
            self._memory(matrices, combined)

    def _flush(self) -> None:
        """Move the statements of the head to the body."""
        self.lines += self.head.lines
        self.head.lines = []

    def _writer(self, index: str) -> Writer:
        """Return a writer inside a loop over units or keys that are at ``index``, or inside both loops."""
        given = {}
        for node, at in self.places.items():
            if index == "memory":
                texts = {UNITS: f"get({at} + u)", KEYS: f"all(({at})[k])", MEMORY: f"get({at} + k * UP + u)"}
            else:
                texts = {UNITS: f"get({at} + i)", KEYS: f"get({at} + i)"}
            if self.kinds[node] in texts:
                given[node] = texts[self.kinds[node]]
        writer = Writer(given)
        writer.names |= self.head.names
        writer.taken |= self.head.taken
        return writer

    def _loop(self, computed: list[Node], combined: list[Node], count: str) -> None:
        writer = self._writer("loop")
        for node in computed:  # computed here, and stored for what follows
            writer.given.pop(node, None)
        body = []
        for node in computed:
            body.append(f"put({self.places[node]} + i, {writer(node)});")
        for node in combined:
            start, more, *_ = _REDUCTIONS[node.op]
            name = self.head.name(node, "part")
            self.lines.append(f"V {name}__ = {start};")
            other = "0" if node.op == "sum" else "-INFINITY"
            value = f"among({writer(node.parents[0])}, i, {count}, {other})"
            body.append(f"{name}__ = {more.format(f'{name}__', value)};")
        self.lines.append(f"for (i64 i = 0; i < {count}; i += VL) {{")
        self.lines += [f"    {line}" for line in (*writer.lines, *body)]
        self.lines.append("}")
        for node in combined:
            name = self.head.names[node]
            self.lines.append(f"const V {name} = all({_REDUCTIONS[node.op][2]}({name}__));")

    def _memory(self, matrices: list[tuple[Node, str]], combined: list[Node]) -> None:
        """Write the loop over the memory: it stores matrices, and combines values over keys, units, or both.

        The innermost loop has BLOCK vectors of units, so that they share what is loaded for a key.
        """
        writer = self._writer("memory")
        body = [f"put({to} + k * UP + u, {writer(node)});" for node, to in matrices]
        before: list[str] = []  # before and after the units of a block, a key, and all
        after: list[str] = []
        first: list[str] = []
        last: list[str] = []
        ahead: list[str] = []
        behind: list[str] = []
        for number, node in enumerate(combined):
            start, more, lanes, each = _REDUCTIONS[node.op]
            value, kind, name = writer(node.parents[0]), self.kinds[node], f"sum__{self.levels[node]}_{number}"
            inside = f"among({value}, u, U, {'0' if node.op == 'sum' else '-INFINITY'})"
            if kind == UNITS:  # over keys
                before += [f"V {name}[BLOCK];", f"for (int b = 0; b < BLOCK; b++) {name}[b] = {start};"]
                body.append(f"{name}[b] = {more.format(f'{name}[b]', value)};")
                after.append(f"for (int b = 0; b < BLOCK; b++) put({self.places[node]} + v + b * VL, {name}[b]);")
            elif kind == KEYS:
                ahead.append(f"V {name}[K];")
                first.append(f"V {name}__ = v ? {name}[k] : {start};")
                body.append(f"{name}__ = {more.format(f'{name}__', inside)};")
                last.append(f"{name}[k] = {name}__;")
                behind.append(f"{each}({name}, {self.places[node]});")
            else:
                ahead.append(f"V {name} = {start};")
                body.append(f"{name} = {more.format(name, inside)};")
                behind.append(f"const V {self.head.name(node, 'total')} = all({lanes}({name}));")
        self.lines += [*ahead, "for (i64 v = 0; v < U; v += BLOCK * VL) {", *(f"    {line}" for line in before)]
        self.lines += ["    for (i64 k = 0; k < K; k++) {", *(f"        {line}" for line in first)]
        self.lines += ["        for (int b = 0; b < BLOCK; b++) {", "            const i64 u = v + b * VL;"]
        self.lines += [f"            {line}" for line in (*writer.lines, *body)]
        self.lines += ["        }", *(f"        {line}" for line in last), "    }"]
        self.lines += [*(f"    {line}" for line in after), "}", *behind]

    def _output(self, node: Node | None, to: str, kind: Kind) -> None:
        """Store a value that is not a matrix, or zeros."""
        count = {HEAD: "1", UNITS: "U", KEYS: "K", MEMORY: "K * UP"}[kind]
        if node is None:
            text = "all(0)"
        elif node.op == "fill" or self.kinds[node] == HEAD:
            text = self.head(node)
            self._flush()
        else:
            text = f"get({self.places[node]} + i)"
        self.lines.append(f"for (i64 i = 0; i < {count}; i += VL) put({to} + i, {text});")
