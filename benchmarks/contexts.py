"""Similarity of a word's contextual embeddings in different sentences, from a model of ``elman train fill``.

    python -m benchmarks.contexts RUN WORD "A sentence with the word." "Another one." ...

The output is the matrix of cosine similarities between the word's embeddings in every two sentences, after
subtracting the mean of all embeddings.
"""

from __future__ import annotations

import argparse

import numpy as np

import elman


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run directory of a model of elman train fill")
    parser.add_argument("word", help="the word")
    parser.add_argument("sentences", nargs="+", help="sentences that contain the word")
    options = parser.parse_args()
    model, rows, embeddings = elman.load(options.run), [], []
    for sentence, words in zip(options.sentences, model.vectors(options.sentences), strict=True):
        matches = [vector for word, vector in words if word.strip(".,;!?") == options.word]
        if not matches:
            parser.error(f"{options.word!r} does not occur in {sentence!r}")
        rows.append(matches[0])
        embeddings += [vector for _, vector in words]
    x = np.stack(rows) - np.mean(embeddings, 0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    for sentence, row in zip(options.sentences, x @ x.T, strict=True):
        print(" ".join(f"{value:5.2f}" for value in row), "", sentence)


if __name__ == "__main__":
    main()
