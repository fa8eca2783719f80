"""Drop-ins for torch.nn's recurrent modules: same constructors, calls, state dicts and numbers.

``import elman.nn as nn`` where it said ``torch.nn``, for RNN, LSTM, GRU and their cells. What runs
inside are elman's engines. Batches of unequal length need no packing: give ``lengths``; a
PackedSequence is taken too, and is run unpacked.
"""

from elman.nn.cells import GRUCell, LSTMCell, RNNCell
from elman.nn.layers import GRU, LSTM, RNN

__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNCell"]
