"""Prints the nodes of a program as C: an expression for each operation and a name for each value."""

from __future__ import annotations

from elman.engines.compiler.operations import BOOLEAN
from elman.engines.compiler.program import Node, Size, TraceError

#: The C of each operation. Truth values are masks, vectors of 0 and -1.
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
    "index": "v_index(a->H - (real)a->left)",
    "copysign": "v_copysign({0}, {1})",
    "div_floor": "v_div_floor({0}, {1})",
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
    **{
        name: f"v_{name}({{0}})"
        for name in (
            "acos",
            "acosh",
            "asin",
            "asinh",
            "atan",
            "atanh",
            "ceil",
            "cosh",
            "erfc",
            "floor",
            "round",
            "sinh",
            "tan",
            "trunc",
        )
    },
    **{name: f"v_{name}({{0}}, {{1}})" for name in ("atan2", "fmod", "hypot", "remainder")},
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
    "logical_xor": "{0} ^ {1}",
    "bitwise_xor": "{0} ^ {1}",
    "sigmoid_backward": "{0} * (1 - {1}) * {1}",
    "tanh_backward": "{0} * (1 - {1} * {1})",
    "threshold_backward": "choose({1} <= {2}, all(0), {0})",
    "silu_backward": "{0} * v_sigmoid({1}) * (1 + {1} * (1 - v_sigmoid({1})))",
    "softplus_backward": "choose({1} * {2} > {3}, {0}, {0} * v_sigmoid({1} * {2}))",
    "leaky_relu_backward": "choose({1} > 0, {0}, {0} * {2})",
    "hardtanh_backward": "choose(({1} > {2}) & ({1} < {3}), {0}, all(0))",
}
#: The positions of arguments that are plain numbers in C rather than vectors, by operation.
_NUMBERS = {"pow": {1}, "softplus": {1, 2}, "softplus_backward": {2, 3}}
#: Names of an author that have another meaning in C or in a kernel.
_WORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while asm typeof
    linux unix real item elem whole choose mix clip first load store get put up least most pair VL PER E M V U
"""
_RESERVED = frozenset(_WORDS.split())
_USED = "x h s w n d keep gates old sum all step V E M a phase inner total scalar sqrt"
_TAKEN = frozenset(_USED.split())
#: The names in C of values of these operations that the author has not named.
_NAMES = {"unit": "w", "amax": "most", "amin": "least"}


class Writer:
    """Writes the statements that compute nodes, each of them once.

    Args:
        given: the C of values that need not be computed.

    Attributes:
        lines: the statements.
        names: the names in C of the values that the statements compute.
    """

    def __init__(self, given: dict[Node, str]) -> None:
        self.lines: list[str] = []
        self.names: dict[Node, str] = {}
        self.given = given
        self.taken = set(_TAKEN)

    def __call__(self, node: Node | None) -> str:
        """Return the C of a value, after writing the statements that compute it."""
        if node is None:
            return "all(0)"
        if node in self.names:
            return self.names[node]
        if node in self.given:
            text, name = self.given[node], self._fresh(node.letter or _NAMES.get(node.op, node.op))
        elif node.op == "fill":
            return _number(node.arguments[0])
        else:
            text, name = self._expression(node), self._fresh(node.letter or "v")
        if node.op in BOOLEAN:
            self.lines.append(f"const M {name} = {f'(M){text}' if node in self.given else text};")
        else:
            self.lines.append(f"const V {name} = {text};")
        self.names[node] = name
        return name

    def _expression(self, node: Node) -> str:
        op, arguments = node.op, list(node.arguments)
        if op in ("add", "sub", "rsub") and len(arguments) == 3:
            op = f"{op}2" if arguments[2] != 1 else op
        if op == "pow" and not isinstance(arguments[0], Node):
            return f"v_raised((real){_plain(arguments[0])}, {self(arguments[1])})"
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
        if op == "flip":
            raise TraceError(f"{node.where}: kernels support flip only around cumsum, x.flip(-1).cumsum(-1).flip(-1)")
        if op not in _C:
            raise TraceError(f"{node.where}: kernels do not support the operation {op}")
        texts = []
        for position, argument in enumerate(arguments):
            if isinstance(argument, Node):
                texts.append(self(argument))
            elif argument is None:
                texts.append("")
            elif position in _NUMBERS.get(op, ()) or isinstance(argument, bool):
                texts.append(f"(real){_plain(argument)}")
            else:
                texts.append(_number(argument))
        return _C[op].format(*texts)

    def name(self, node: Node, wanted: str) -> str:
        """Return a new name in C for a node whose statement the caller writes."""
        self.names[node] = self._fresh(wanted)
        return self.names[node]

    def _fresh(self, wanted: str) -> str:
        """Return a name in C that is not taken."""
        wanted = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in wanted)
        wanted = f"{wanted}_" if wanted in _RESERVED else wanted
        name, number = wanted if wanted != "v" else "v1", 1
        while name in self.taken or name.startswith("v_"):
            number += 1
            name = f"{wanted.rstrip('_')}{number}" if wanted[-1:] != "_" else f"{wanted}{number}"
        self.taken.add(name)
        return name


def _plain(value: float | Size) -> str:
    """Return a number in C."""
    if isinstance(value, Size):
        base = f"((double)a->H + {value.more!r})" if value.more else "a->H"
        powers = {1.0: f"* {base}", -1.0: f"/ {base}", 0.5: f"* sqrt({base})", -0.5: f"/ sqrt({base})"}
        powers |= {2.0: f"* ({base} * {base})", -2.0: f"/ ({base} * {base})"}
        return f"({value.factor!r} {powers[value.power]})"
    value = float(value)
    if value != value:
        return "NAN"
    if abs(value) == float("inf"):
        return "-INFINITY" if value < 0 else "INFINITY"
    return repr(value)


def _number(value: float | Size) -> str:
    """Return the C of a vector with the same number in all lanes."""
    text = _plain(value)
    return f"all((real){text})" if isinstance(value, Size) else f"all({text})"
