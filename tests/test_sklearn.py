"""SequenceClassifier in scikit-learn: its pipelines, its cross-validation, its checks."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import elman

sklearn = pytest.importorskip("sklearn")

from sklearn.base import clone  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer  # noqa: E402
from sklearn.utils import estimator_checks  # noqa: E402

QUICK: dict[str, Any] = {"steps": 40, "hidden_size": 8, "learning_rate": 0.02, "dropout": 0.0, "device": "cpu"}


def rising(count: int) -> tuple[list[np.ndarray], np.ndarray]:
    draw = np.random.default_rng(0)
    labels = np.array(["down", "up"])[draw.integers(0, 2, count)]
    return [
        np.linspace(0, 1 if y == "up" else -1, T)[:, None] + 0.1 * draw.standard_normal((T, 2))
        for y, T in zip(labels, draw.integers(4, 9, count), strict=True)
    ], labels


def test_cross_validation_and_pipelines() -> None:
    X, y = rising(60)
    scores = cross_val_score(elman.SequenceClassifier(**QUICK), X, y, cv=3)
    assert scores.mean() > 0.9
    doubled = make_pipeline(FunctionTransformer(lambda X: [2 * x for x in X]), elman.SequenceClassifier(**QUICK))
    assert doubled.fit(X, y).score(X, y) > 0.9
    search = GridSearchCV(elman.SequenceClassifier(**QUICK), {"cell": ["gru", "rnn_tanh"]}, cv=2).fit(X, y)
    assert search.best_score_ > 0.8


def test_texts_labels_and_probabilities() -> None:
    texts = ["so good", "very good", "so bad", "very bad"] * 10
    model = elman.SequenceClassifier(**QUICK, tokens="word", embedding_size=8).fit(texts, [1, 1, 0, 0] * 10)
    assert model.classes_.tolist() == [0, 1]
    assert model.predict(["good", "bad"]).tolist() == [1, 0]
    p = model.predict_proba(np.array(["good", "bad"]))
    assert p.shape == (2, 2) and np.allclose(p.sum(1), 1.0)
    again = clone(model).fit(texts, [1, 1, 0, 0] * 10)
    assert np.allclose(again.predict_proba(["good", "bad"]), p)
    for X, y, message in (
        (["a"], [1], "1 sample"), (["a", "b"], [1, 1], "one class"),
        (["a", "b"], [1], "inconsistent"), ([], [], "empty"),
        ([np.zeros((2, 1)), np.zeros((2, 2))], [0, 1], "different numbers of channels"),
        ([np.array([1.0, np.nan]), np.zeros(2)], [0, 1], r"X\[0\]: step 2 of channel 1 is nan"),
        ("abc", [1], "Reshape your data"), (["a", " "], [0, 1], r"X\[1\]: an empty text"),
    ):  # fmt: skip
        with pytest.raises(elman.ElmanError, match=message):
            clone(model).fit(X, y)
    with pytest.raises(elman.ElmanError, match="learning_rate"):
        elman.SequenceClassifier(learning_rate=-1.0).fit(texts, [1, 1, 0, 0] * 10)


#: Checks of scikit-learn that are left out: the reason for each.
LEFT_OUT = {"check_methods_subset_invariance": "allows 1e-7; on some processors float32 is rounded by the batch size"}


@estimator_checks.parametrize_with_checks(
    [elman.SequenceClassifier(steps=15, hidden_size=16, learning_rate=0.06, dropout=0.0, device="cpu")],
    expected_failed_checks=lambda _: LEFT_OUT,
)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def test_the_answer_to_an_input_does_not_depend_on_the_others() -> None:
    X, y = rising(20)
    fitted = elman.SequenceClassifier(**QUICK).fit(X, y)
    alone = np.concatenate([fitted.predict_proba(X[k : k + 1]) for k in range(20)])
    np.testing.assert_allclose(alone, fitted.predict_proba(X), rtol=1e-5, atol=1e-6)


def test_whatever_can_be_made_an_array() -> None:
    X, y = rising(20)
    tables = np.stack([np.resize(x[:, 0], 8) for x in X])
    fitted = elman.SequenceClassifier(**QUICK).fit(tables, y)
    law = fitted.predict_proba(tables)
    for same in (torch.from_numpy(tables), tables.astype(object), tables.tolist()):
        assert np.array_equal(fitted.predict_proba(same), law)
    with pytest.raises(TypeError, match=r"X\[1\]: not a series of numbers"):
        fitted.predict([[1.0], [{}]])
    with pytest.raises(elman.ElmanError, match=r"X\[0\]: not a series of numbers"):
        fitted.predict([[[1.0], [2.0, 3.0]], [[1.0], [2.0]]])
