"""Chains: models in a row, each of which reads what the one before has written.

::

    chain = elman.chain(["runs/captions", "runs/en-de"])
    print(chain.predict(["photo.jpg"])[0][0].text)
"""

from elman.chains.file import chain, is_chain
from elman.chains.stages import Chain, ChainAnswer, Stage

__all__ = ["Chain", "ChainAnswer", "Stage", "chain", "is_chain"]
