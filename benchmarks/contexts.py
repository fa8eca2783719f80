"""How alike a word's vectors are in different sentences, by a model of ``elman train fill``.

    python -m benchmarks.contexts RUN WORD "A sentence with the word." "Another one." ...

prints the cosine between the word's vectors (less the mean of all words' vectors) for every two sentences.
"""

from __future__ import annotations

import argparse

import numpy as np

import elman


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("word")
    parser.add_argument("sentences", nargs="+")
    given = parser.parse_args()
    model, rows, every = elman.load(given.run), [], []
    for sentence, words in zip(given.sentences, model.vectors(given.sentences), strict=True):
        found = [vector for word, vector in words if word.strip(".,;!?") == given.word]
        if not found:
            parser.error(f"{given.word!r} is not in {sentence!r}")
        rows.append(found[0])
        every += [vector for _, vector in words]
    x = np.stack(rows) - np.mean(every, 0)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    for sentence, row in zip(given.sentences, x @ x.T, strict=True):
        print(" ".join(f"{value:5.2f}" for value in row), "", sentence)


if __name__ == "__main__":
    main()
