"""Baselines without a neural network, with which the accuracy of a classifier is compared."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

_log = logging.getLogger("elman")


def majority(train: Sequence[str], test: Sequence[str]) -> float:
    """Compute the accuracy of always predicting the most frequent label of the training data.

    Parameters
    ----------
    train : sequence of str
        The label of each training example; at least one.
    test : sequence of str
        The label of each test example; at least one.

    Returns
    -------
    float
        Between 0 and 1.

    Examples
    --------
    >>> majority(["pos", "pos", "neg"], ["pos", "neg"])
    0.5
    """
    (label, _), *_ = Counter(train).most_common(1)
    return sum(truth == label for truth in test) / len(test)


def tfidf(texts: Sequence[str], labels: Sequence[str], test_texts: Sequence[str], test: Sequence[str]) -> float | None:
    """Compute the accuracy of logistic regression on TF-IDF features.

    The features are words and pairs of words or, if texts have three words or fewer on average, one to four
    characters. Logistic regression has C = 10.

    Parameters
    ----------
    texts : sequence of str
        The training texts.
    labels : sequence of str
        The label of each training text; at least two different ones.
    test_texts : sequence of str
        The test texts.
    test : sequence of str
        The label of each test text.

    Returns
    -------
    float or None
        Between 0 and 1; None if scikit-learn is not installed, which is logged.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError:
        _log.warning("the TF-IDF baseline is not computed, since scikit-learn is missing: pip install 'elman[sklearn]'")
        return None
    short = sum(len(text.split()) for text in texts) <= 3 * len(texts)
    vectors = TfidfVectorizer(
        analyzer="char_wb" if short else "word", ngram_range=(1, 4) if short else (1, 2), sublinear_tf=True,
    )  # fmt: skip
    model = make_pipeline(vectors, LogisticRegression(C=10.0, max_iter=1000))
    model.fit(list(texts), list(labels))
    return float(model.score(list(test_texts), list(test)))
