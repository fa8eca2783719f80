"""Drop-in replacements for torch.nn's recurrent modules: same arguments, calls, state dicts and numbers.

Replace ``torch.nn`` by ``elman.nn`` for RNN, LSTM, GRU and their cells. They run on elman's engines, and
`elman.layers.quantize`, `elman.layers.packed` and ``elman inspect`` work on them. Batches of sequences of unequal
length need no packing: pass ``lengths``. A PackedSequence is accepted too.
"""

from elman.nn.cells import GRUCell, LSTMCell, RNNCell
from elman.nn.layers import GRU, LSTM, RNN

__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNCell"]
