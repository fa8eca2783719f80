"""The fusion that the options of a search ask for."""

from __future__ import annotations

from elman.config import check_applicable
from elman.data.tokenizer import Tokenizer
from elman.decoding.fusion import Fusion, LanguageModelFusion, Sum, WordBonus
from elman.decoding.heard import CTCSearch
from elman.decoding.hotwords import Hotwords, read_hotwords
from elman.tasks.loading import load_scorer


def fusion_of(search: CTCSearch, tokenizer: Tokenizer, device: str) -> Fusion | None:
    """Return the fusion that the options of a search ask for; None without a language model and hotwords.

    Args:
        search (CTCSearch): the options.
        tokenizer (Tokenizer): the tokenizer of the network that reads the input.
        device (str): where the language model runs.

    Raises:
        ElmanError: an option has no effect, the language model cannot be loaded or is none, or the file of hotwords
            cannot be read or is empty.
    """
    check_applicable(search, search.model_fields_set, {})
    parts: list[Fusion] = []
    if search.language_model is not None:
        parts.append(LanguageModelFusion(load_scorer(search.language_model, device), search.language_weight, tokenizer))
        if search.word_bonus:
            parts.append(WordBonus(tokenizer, search.word_bonus))
    if search.hotwords is not None:
        parts.append(Hotwords(read_hotwords(search.hotwords), search.hotword_weight, tokenizer))
    return parts[0] if len(parts) == 1 else Sum(parts) if parts else None
