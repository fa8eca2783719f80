"""Formulas for pointwise operations of torch, in terms of the primitive operations that a backend implements."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from elman.engines.compiler.operations import PRIMITIVES
from elman.engines.compiler.program import Node, of


def _where(truth: Node, value: Any, other: Any) -> Node:
    return of("where", truth, value, other)


def _erf_gelu(x: Node) -> Node:
    """Return the distribution function of the standard normal distribution."""
    return 0.5 * (1 + of("erf", x * math.sqrt(0.5)))


def _tanh_gelu(x: Node) -> Node:
    return of("tanh", math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x)))


def _gelu(x: Node, approximate: str = "none") -> Node:
    return x * _erf_gelu(x) if approximate == "none" else 0.5 * x * (1 + _tanh_gelu(x))


def _gelu_backward(g: Node, x: Node, approximate: str = "none") -> Node:
    if approximate == "none":
        return g * (_erf_gelu(x) + x * (of("exp", -0.5 * (x * x)) * math.sqrt(0.5 / math.pi)))
    t = _tanh_gelu(x)
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * (x * x))
    return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)


def _elu(x: Node, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Node:
    return _where(x < 0, of("expm1", x * input_scale) * (alpha * scale), x * scale)


def _elu_backward(g: Node, alpha: float, scale: float, input_scale: float, is_result: bool, x: Node) -> Node:
    below = x + alpha * scale if is_result else of("exp", x * input_scale) * (alpha * scale)
    return _where(x <= 0, g * input_scale * below, g * scale)


def _sixth() -> float:
    """Return 1 / 6 as the gradient of hardsigmoid in torch has it, rounded to float32."""
    one = torch.ones(1, dtype=torch.float64, device="cpu")
    return torch.ops.aten.hardsigmoid_backward(one, one).item()


def _mish_backward(g: Node, x: Node) -> Node:
    t = of("tanh", of("softplus", x))
    return g * (t + x * of("sigmoid", x) * (1 - t * t))


def _logit(x: Node, eps: float | None = None) -> Node:
    z = x if eps is None else of("clamp", x, eps, 1 - eps)
    return of("log", z / (1 - z))


def _logit_backward(g: Node, x: Node, eps: float | None = None) -> Node:
    low, high, other = (0.0, 1.0, math.nan) if eps is None else (eps, 1 - eps, 0.0)
    return _where((x < low) | (x > high), other, g / (x * (1 - x)))


def _lerp(a: Node, b: Node, k: Any) -> Node:
    near, far = a + k * (b - a), b - (b - a) * (1 - k)
    if isinstance(k, Node):
        return _where(of("abs", k) < 0.5, near, far)
    return near if abs(k) < 0.5 else far


def _div(a: Any, b: Any, rounding_mode: str | None = None) -> Node:
    if rounding_mode == "floor":
        return of("div_floor", a, b)
    return of("div", a, b) if rounding_mode is None else of("trunc", of("div", a, b))


def _round(x: Node, decimals: int = 0) -> Node:
    if decimals < 0:
        return of("round", x / 10.0**-decimals) * 10.0**-decimals
    return of("round", x * 10.0**decimals) / 10.0**decimals if decimals else of("round", x)


def _finite(x: Node) -> Node:
    return of("abs", x) < math.inf


def _logaddexp(a: Node, b: Node, base: float = math.e) -> Node:
    gap = of("exp", -of("abs", a - b) * math.log(base))
    both = of("maximum", a, b) + of("log1p", gap) * (1 / math.log(base))
    return _where(of("eq", a, b) & (of("abs", a) > 3e38), a, both)


def _nan_to_num(
    x: Node, nan: float | None = None, high: float | None = None, low: float | None = None, largest: float = 0.0
) -> Node:
    """Replace infinity by ``largest``, the largest number of the dtype, unless ``high`` or ``low`` is given."""
    x = _where(of("eq", x, math.inf), largest if high is None else high, x)
    x = _where(of("eq", x, -math.inf), -largest if low is None else low, x)
    return _where(of("ne", x, x), nan or 0.0, x)


def _between(x: Node, low: Any, high: Any) -> Node:
    return (x >= low) & (x <= high)


#: The formula of each operation by name, and of its further results by name and number.
FORMULAS: dict[str, Callable[..., Node]] = {
    "addcmul": lambda s, a, b, value=1: s + value * (a * b),
    "addcdiv": lambda s, a, b, value=1: s + value * (a / b),
    "celu": lambda x, alpha=1.0: _elu(x, alpha, 1.0, 1 / alpha),
    "deg2rad": lambda x: x * (math.pi / 180),
    "div": _div,
    "elu": _elu,
    "elu_backward": _elu_backward,
    "exp2": lambda x: of("pow", 2.0, x),
    "floor_divide": lambda a, b: of("div_floor", a, b),
    "fmax": lambda a, b: _where((a >= b) | of("ne", b, b), a, b),
    "fmin": lambda a, b: _where((a <= b) | of("ne", b, b), a, b),
    "frac": lambda x: x - of("trunc", x),
    "gelu": _gelu,
    "gelu_backward": _gelu_backward,
    "hardshrink": lambda x, lambd=0.5: _where(_between(x, -lambd, lambd), 0.0, x),
    "hardshrink_backward": lambda g, x, lambd: _where(_between(x, -lambd, lambd), 0.0, g),
    "hardsigmoid": lambda x: of("clamp", x + 3, 0.0, 6.0) / 6,
    "hardsigmoid_backward": lambda g, x: _where((x > -3) & (x < 3), g * _sixth(), 0.0),
    "hardswish": lambda x: x * of("clamp", x + 3, 0.0, 6.0) / 6,
    "hardswish_backward": lambda g, x: _where(x <= -3, 0.0, _where(x < 3, g * (x / 3 + 0.5), g)),
    "heaviside": lambda x, other: _where(of("eq", x, 0.0), other, _where(x > 0, 1.0, 0.0)),
    "isfinite": _finite,
    "isinf": lambda x: of("eq", of("abs", x), math.inf),
    "isnan": lambda x: of("ne", x, x),
    "lerp": _lerp,
    "log10": lambda x: of("log", x) * (1 / math.log(10)),
    "log2": lambda x: of("log", x) * (1 / math.log(2)),
    "log_sigmoid_forward": lambda x: of("clamp_max", x, 0.0) - of("log1p", of("exp", -of("abs", x))),
    "log_sigmoid_forward.1": lambda x: of("exp", -of("abs", x)),
    "log_sigmoid_backward": lambda g, x, _: g * of("sigmoid", -x),
    "logaddexp": _logaddexp,
    "logaddexp2": lambda a, b: _logaddexp(a, b, 2.0),
    "logit": _logit,
    "logit_backward": _logit_backward,
    "mish": lambda x: x * of("tanh", of("softplus", x)),
    "mish_backward": _mish_backward,
    "nan_to_num": _nan_to_num,
    "_prelu_kernel": lambda x, w: _where(x > 0, x, w * x),
    "_prelu_kernel_backward": lambda g, x, w: _where(x > 0, g, w * g),
    "_prelu_kernel_backward.1": lambda g, x, w: _where(x > 0, 0.0, x * g),
    "rad2deg": lambda x: x * (180 / math.pi),
    "round": _round,
    "signbit": lambda x: of("copysign", 1.0, x) < 0,
    "sinc": lambda x: _where(of("eq", x, 0.0), 1.0, of("sin", x * math.pi) / (x * math.pi)),
    "softshrink": lambda x, lambd=0.5: _where(x > lambd, x - lambd, _where(x < -lambd, x + lambd, x * 0.0)),
    "softshrink_backward": lambda g, x, lambd: _where(_between(x, -lambd, lambd), 0.0, g),
    "threshold": lambda x, low, value: _where(x <= low, value, x),
    "xlogy": lambda x, y: _where(of("ne", y, y), math.nan, _where(of("eq", x, 0.0), 0.0, x * of("log", y))),
}  # fmt: skip

#: All supported pointwise operations, in a step and in torch's gradient of one.
POINTWISE = PRIMITIVES | FORMULAS.keys()
