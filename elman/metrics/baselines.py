"""What needs no network, to know how much one is worth."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

_log = logging.getLogger("elman")


def majority(train: Sequence[str], test: Sequence[str]) -> float:
    """The accuracy of always giving the most frequent label."""
    (label, _), *_ = Counter(train).most_common(1)
    return sum(one == label for one in test) / len(test)


def tfidf(texts: Sequence[str], labels: Sequence[str], test_texts: Sequence[str], test: Sequence[str]) -> float | None:
    """The accuracy of logistic regression on TF-IDF of words and pairs of words.

    Texts of a word or two: of one to four characters. None, and the log says so, where scikit-learn is missing.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError:
        _log.warning("no TF-IDF baseline without scikit-learn: pip install 'elman[sklearn]'")
        return None
    short = sum(len(text.split()) for text in texts) <= 3 * len(texts)
    vectors = TfidfVectorizer(
        analyzer="char_wb" if short else "word", ngram_range=(1, 4) if short else (1, 2), sublinear_tf=True,
    )  # fmt: skip
    model = make_pipeline(vectors, LogisticRegression(C=10.0, max_iter=1000))
    model.fit(list(texts), list(labels))
    return float(model.score(list(test_texts), list(test)))
