"""Data: files and tables, splits, tokenizers, and batches."""

from elman.data.text import absolute, fingerprint, read_bytes, read_text
from elman.data.tokenizer import Tokenizer, TokenKind
from elman.data.windows import Window, Windows

__all__ = ["TokenKind", "Tokenizer", "Window", "Windows", "absolute", "fingerprint", "read_bytes", "read_text"]
