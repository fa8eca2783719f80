"""Plot of vanishing and exploding gradients in an RNN, an LSTM and a GRU.

    python -m benchmarks.gradients FOLDER

The script writes FOLDER/gradients.svg: |dLoss/dh_t| against t for a loss at the last of 100 steps of noise, for
different largest singular values of the recurrent matrices. docs/gradients.md discusses the figure.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from elman.layers import Recurrent
from elman.layers.recorder import Recorder

#: Name of each cell in elman, and the gate that keeps the state. The bias of this gate is 3, all others are 0.
CELLS = {"RNN": ("rnn_tanh", ""), "LSTM": ("lstm", "f"), "GRU": ("gru", "z")}
#: Largest singular values of the recurrent matrices.
GAINS = (0.5, 1.0, 2.0)


def norms(cell: str, gate: str, gain: float, units: int = 64, steps: int = 100) -> torch.Tensor:
    """Compute |dLoss/dh_t| / |dLoss/dh_T|, the geometric mean over ten random networks and inputs.

    Args:
        cell: name of the cell.
        gate: name of the gate whose bias is 3, or "".
        gain: factor of the orthogonal recurrent matrices.
        units: number of hidden units. Default: 64.
        steps: number of steps, T. Default: 100.

    Returns:
        The relative norms, (T,).
    """
    rows = []
    for seed in range(10):
        torch.manual_seed(seed)
        layer = Recurrent(cell, 8, units, open_bias=0.0)  # its recurrent matrices are orthogonal
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
    parser.add_argument("folder", type=Path, help="folder for gradients.svg")
    folder = parser.parse_args().folder
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, gain in zip(figure.subplots(1, len(GAINS), sharey=True), GAINS, strict=True):
        for name, (cell, gate) in CELLS.items():
            ratios = norms(cell, gate, gain)
            axes.semilogy(range(1, len(ratios) + 1), ratios.numpy(), label=name)
            print(f"recurrent matrices x {gain}: {name} {ratios[0]:.1e} after {len(ratios) - 1} steps back")
        axes.set_title(f"recurrent matrices x {gain}", fontsize=10)
        axes.set_xlabel("step t")
        axes.set_ylim(1e-20, 1e8)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("|dLoss/dh_t| / |dLoss/dh_T|")
    figure.axes[0].legend()
    figure.savefig(folder / "gradients.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
