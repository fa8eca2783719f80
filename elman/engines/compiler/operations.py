"""Properties of the operations that a program may contain. They hold for every backend."""

from __future__ import annotations

_PRIMITIVES = """
    abs acos acosh add asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp clamp_max
    clamp_min copysign cos cosh div div_floor eq erf erfc exp expm1 floor fmod ge gt hardtanh hardtanh_backward hypot
    le leaky_relu leaky_relu_backward log log1p logical_and logical_not logical_or logical_xor lt masked_fill maximum
    minimum mul ne neg pow reciprocal relu remainder round rsqrt rsub sgn sigmoid sigmoid_backward sign silu
    silu_backward sin sinh softplus softplus_backward sqrt square sub tan tanh tanh_backward threshold_backward trunc
    where
"""
#: Pointwise operations of torch that a backend implements itself, in a step and in torch's gradient of one.
PRIMITIVES = frozenset(_PRIMITIVES.split())

#: Operations whose result is a truth value.
BOOLEAN = frozenset({
    "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "eq", "ge", "gt", "le", "logical_and", "logical_not",
    "logical_or", "logical_xor", "lt", "ne",
})  # fmt: skip
#: The positions of arguments that are truth values, by operation. All other arguments are numbers.
BOOLEAN_ARGUMENTS = {"where": (0,), "masked_fill": (1,), "logical_not": (0,), "bitwise_not": (0,)} | dict.fromkeys(
    ("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"), (0, 1)
)

#: Operations of torch that rename, copy or repeat a value.
COPIES = frozenset({
    "alias", "clone", "detach", "expand", "reshape", "squeeze", "unsqueeze", "view", "_to_copy", "_unsafe_view",
})  # fmt: skip
#: Operations of torch that fill a tensor with a fixed number, and that number.
CONSTANTS = {"new_ones": 1.0, "ones": 1.0, "ones_like": 1.0} | dict.fromkeys(
    ("empty_like", "new_zeros", "zero", "zeros", "zeros_like"), 0.0
)
#: Operations of torch that fill a tensor with a given number, and the position of that argument.
FILLS = {"fill": 1, "full": 1, "full_like": 1, "new_full": 2}
#: Operations of torch that turn a number into a tensor. They leave no node in the program.
LITERALS = frozenset({"lift_fresh", "lift_fresh_copy", "scalar_tensor"})

#: Operations that combine all units of a row: sum, maximum, minimum, and the sum over all preceding units.
REDUCTIONS = frozenset({"total", "amax", "amin", "before"})
#: Products with the matrix of an inner gate.
PRODUCTS = frozenset({"inner", "inner_back"})
#: Operations that read all units of a row. Their result is available in the next phase only.
ACROSS = REDUCTIONS | PRODUCTS

#: Operations that are computed again in a later phase instead of being stored, where their arguments are available.
CHEAP = frozenset({"add", "sub", "rsub", "mul", "neg"})
#: Operations that are too slow to be computed twice: forward keeps their result for backward.
EXPENSIVE = frozenset({
    "log", "log1p", "expm1", "sin", "cos", "erf", "pow", "softplus", "acos", "acosh", "asin", "asinh", "atan", "atan2",
    "atanh", "cosh", "div_floor", "erfc", "fmod", "hypot", "remainder", "sinh", "tan",
})  # fmt: skip
