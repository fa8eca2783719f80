"""Recurrent cells: the equations of one step, a registry of cells by name, and the base class for new ones."""

from __future__ import annotations

from elman.cells.cell import Cell, Weights, chrono
from elman.cells.gru import GRU, MGU, OriginalGRU
from elman.cells.lstm import LSTM, SLSTM, CoupledLSTM, LayerNormLSTM, PeepholeLSTM, ProjectedLSTM
from elman.cells.memory import MLSTM, DeltaNet, GatedDeltaNet, GatedLinearAttention
from elman.cells.parallel import LRU, QRNN, RGLRU, SRU, GatedMinGRU, GatedMinLSTM, MinGRU, MinLSTM, ring
from elman.cells.rnn import IndRNN, RNNReLU, RNNTanh
from elman.errors import unknown_name

#: Every cell by its name, as used in configs, saved models and on the command line.
CELLS: dict[str, Cell] = {
    "rnn_tanh": RNNTanh(),
    "rnn_relu": RNNReLU(),
    "indrnn": IndRNN(),
    "lstm": LSTM(),
    "peephole_lstm": PeepholeLSTM(),
    "coupled_lstm": CoupledLSTM(),
    "layer_norm_lstm": LayerNormLSTM(),
    "projected_lstm": ProjectedLSTM(),
    "slstm": SLSTM(),
    "gru": GRU(),
    "original_gru": OriginalGRU(),
    "mgu": MGU(),
    "mingru": MinGRU(),
    "gated_mingru": GatedMinGRU(),
    "minlstm": MinLSTM(),
    "gated_minlstm": GatedMinLSTM(),
    "qrnn": QRNN(),
    "sru": SRU(),
    "rg_lru": RGLRU(),
    "lru": LRU(),
    "mlstm": MLSTM(),
    "gla": GatedLinearAttention(),
    "deltanet": DeltaNet(),
    "gated_deltanet": GatedDeltaNet(),
}

#: Ends the error message for an unknown name.
_REGISTER = "; register a cell of your own with elman.cells.register, on the command line with --import FILE.py"


def get(cell: str | Cell | type[Cell]) -> Cell:
    """Return the cell for a name, a cell or a cell class.

    Args:
        cell (str | Cell | type[Cell]): A key of `CELLS`; a cell, which is returned; or a class, which is instantiated.

    Returns:
        Cell: The cell.

    Raises:
        ElmanError: The name is unknown. The message suggests the nearest known name.
        TypeError: ``cell`` is of another type.

    Example::

        >>> get("gru")
        GRU
    """
    if isinstance(cell, Cell):
        return cell
    if isinstance(cell, type) and issubclass(cell, Cell):
        return cell()
    if not isinstance(cell, str):
        raise TypeError(f"cell must be a name, a Cell or a subclass of Cell, got: {type(cell).__name__}")
    if cell not in CELLS:
        raise unknown_name("cell", cell, CELLS, _REGISTER)
    return CELLS[cell]


def register(name: str, cell: Cell | type[Cell]) -> None:
    """Add a cell under a name for use in configs, saved models and on the command line.

    Args:
        name (str): The new name.
        cell (Cell | type[Cell]): A cell, or a subclass of `Cell`.

    Raises:
        ValueError: The name is taken.
        TypeError: ``cell`` is neither a cell nor a subclass of `Cell`.

    Example::

        elman.cells.register("leaky", Leaky)  # the class in the example of Cell
        layer = elman.layers.Recurrent("leaky", input_size=8, hidden_size=16)
    """
    if name in CELLS:
        raise ValueError(f"the cell name {name!r} is taken by {CELLS[name]}; choose another name")
    CELLS[name] = get(cell)


__all__ = [
    "CELLS", "Cell", "Weights", "chrono", "get", "register", "ring",
    "RNNTanh", "RNNReLU", "IndRNN",
    "LSTM", "PeepholeLSTM", "CoupledLSTM", "LayerNormLSTM", "ProjectedLSTM", "SLSTM",
    "GRU", "OriginalGRU", "MGU",
    "MinGRU", "GatedMinGRU", "MinLSTM", "GatedMinLSTM", "QRNN", "SRU", "RGLRU", "LRU",
    "MLSTM", "GatedLinearAttention", "DeltaNet", "GatedDeltaNet",
]  # fmt: skip
