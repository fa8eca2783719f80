"""The equations: every cell elman knows, by name, and the class to write your own from."""

from __future__ import annotations

from elman.cells.cell import Cell, Weights, chrono
from elman.cells.gru import GRU, MGU, OriginalGRU
from elman.cells.lstm import LSTM, CoupledLSTM, LayerNormLSTM, PeepholeLSTM, ProjectedLSTM
from elman.cells.rnn import IndRNN, RNNReLU, RNNTanh
from elman.errors import unknown_name

#: Name (on the command line, in configs and in saved models) to cell. The one list of cells.
CELLS: dict[str, Cell] = {
    "rnn_tanh": RNNTanh(),
    "rnn_relu": RNNReLU(),
    "indrnn": IndRNN(),
    "lstm": LSTM(),
    "peephole_lstm": PeepholeLSTM(),
    "coupled_lstm": CoupledLSTM(),
    "layer_norm_lstm": LayerNormLSTM(),
    "projected_lstm": ProjectedLSTM(),
    "gru": GRU(),
    "original_gru": OriginalGRU(),
    "mgu": MGU(),
}

#: What is said of a cell that is not known.
_OWN = "; a cell of your own is registered by --import FILE.py, in Python by elman.cells.register"


def get(cell: str | Cell | type[Cell]) -> Cell:
    """The cell of that name; a cell, or a cell's class, stands for itself."""
    if isinstance(cell, Cell):
        return cell
    if isinstance(cell, type) and issubclass(cell, Cell):
        return cell()
    if not isinstance(cell, str):
        raise TypeError(f"a cell is a name, a Cell or its class, got: {type(cell).__name__}")
    if cell not in CELLS:
        raise unknown_name("cell", cell, CELLS, _OWN)
    return CELLS[cell]


def register(name: str, cell: Cell | type[Cell]) -> None:
    """Makes a cell of one's own known by ``name``, for configs, saved models and the command line."""
    if name in CELLS:
        raise ValueError(f"a cell is already called {name!r}: {CELLS[name]}")
    CELLS[name] = get(cell)


__all__ = [
    "CELLS", "Cell", "Weights", "chrono", "get", "register",
    "RNNTanh", "RNNReLU", "IndRNN",
    "LSTM", "PeepholeLSTM", "CoupledLSTM", "LayerNormLSTM", "ProjectedLSTM",
    "GRU", "OriginalGRU", "MGU",
]  # fmt: skip
