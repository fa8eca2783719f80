"""SequenceClassifier in scikit-learn: its pipelines, its cross-validation, its checks."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

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


#: Of scikit-learn's own checks those that make sense where an input is a sequence.
CHECKS = [
    "check_no_attributes_set_in_init", "check_estimators_unfitted", "check_get_params_invariance", "check_set_params",
    "check_dict_unchanged", "check_fit_idempotent", "check_fit_check_is_fitted",
    "check_classifiers_one_label", "check_classifiers_classes", "check_classifiers_train", "check_estimators_dtypes",
    "check_estimators_nan_inf", "check_estimators_overwrite_params", "check_parameters_default_constructible",
    "check_estimators_fit_returns_self", "check_fit2d_1sample", "check_fit2d_1feature", "check_complex_data",
    "check_methods_sample_order_invariance", "check_estimators_pickle",
    "check_supervised_y_2d", "check_classifiers_regression_target", "check_requires_y_none", "check_n_features_in",
]  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_checks(name: str) -> None:
    model = elman.SequenceClassifier(steps=25, hidden_size=16, learning_rate=0.03, dropout=0.0, device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(estimator_checks, name)("SequenceClassifier", model)
