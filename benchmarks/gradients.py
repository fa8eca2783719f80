"""Pictures of how far the gradient of a loss at the last step reaches back: RNN, LSTM and GRU side by side.

    python -m benchmarks.gradients FOLDER

draws FOLDER/gradients.svg: |dLoss/dh_t| against t for a loss at the last of 100 steps of noise, by the largest singular
value of the recurrent matrices; the docs page docs/gradients.md says what is seen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from elman.layers import Recurrent
from elman.layers.recorder import Recorder

#: A cell, and its gate that lets the state through; its bias starts at 3.
CELLS = {"RNN": ("rnn_tanh", ""), "LSTM": ("lstm", "f"), "GRU": ("gru", "z")}
GAINS = (0.5, 1.0, 2.0)


def norms(cell: str, gate: str, gain: float, units: int = 64, steps: int = 100) -> torch.Tensor:
    """|dLoss/dh_t| over |dLoss/dh_T|, (T,): the mean of logarithms over ten draws."""
    rows = []
    for seed in range(10):
        torch.manual_seed(seed)
        layer = Recurrent(cell, 8, units, open_bias=0.0)  # recurrent matrices start orthogonal
        with torch.no_grad():
            assert layer.weight_hh is not None
            assert layer.bias_ih is not None
            for name, bias in zip(layer.cell.input_gates, layer.bias_ih.split(units), strict=True):
                bias.fill_(3.0 if name == gate else 0.0)
            layer.weight_hh.mul_(gain)
        with Recorder(layer) as recorder:
            y, _ = layer(0.3 * torch.randn(1, steps, 8))
            y[0, -1].sum().backward()
        gradient = recorder.layers()[0].gradients()
        rows.append((gradient / gradient[-1]).clamp(min=1e-30).log())
    return torch.stack(rows).mean(0).exp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, gain in zip(figure.subplots(1, len(GAINS), sharey=True), GAINS, strict=True):
        for name, (cell, gate) in CELLS.items():
            found = norms(cell, gate, gain)
            axes.semilogy(range(1, len(found) + 1), found.numpy(), label=name)
            print(f"recurrent matrices x {gain}: {name} {found[0]:.1e} after {len(found) - 1} steps back")
        axes.set_title(f"recurrent matrices x {gain}", fontsize=10)
        axes.set_xlabel("step t")
        axes.set_ylim(1e-20, 1e8)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("|dLoss/dh_t| / |dLoss/dh_T|")
    figure.axes[0].legend()
    figure.savefig(folder / "gradients.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
