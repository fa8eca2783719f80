"""The overhead of elman.nn over torch.nn, through the torch engine: python -m benchmarks.layers"""

from __future__ import annotations

import torch

import elman
import elman.nn
from benchmarks.pairs import side_by_side

SIZES = [(32, 128, 256), (64, 128, 512)]


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; ms, and elman.nn / torch.nn (at most 1.05)")
    print(f"{'module':6} {'B':>4} {'T':>4} {'H':>4}  {'work':18} {'elman':>8} {'torch':>8} {'ratio':>6}")
    for B, T, H in SIZES:
        for kind in ("LSTM", "GRU", "RNN"):
            theirs, ours = getattr(torch.nn, kind)(H, H), getattr(elman.nn, kind)(H, H)
            ours.load_state_dict(theirs.state_dict())
            x = torch.randn(T, B, H)

            def forward(module: torch.nn.Module, x: torch.Tensor = x) -> None:
                with torch.no_grad():
                    module(x)

            def both(module: torch.nn.Module, x: torch.Tensor = x) -> None:
                module(x)[0].sum().backward()

            for name, work in (("forward", forward), ("forward + backward", both)):
                with elman.engine("torch"):
                    pair = side_by_side(lambda: work(ours), lambda: work(theirs))  # noqa: B023
                times = f"{1000 * pair.ours:8.1f} {1000 * pair.theirs:8.1f} {pair.ratio:6.3f}"
                print(f"{kind:6} {B:4} {T:4} {H:4}  {name:18} {times}", flush=True)


if __name__ == "__main__":
    main()
