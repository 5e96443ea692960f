"""Five ways to tell a fresh film review from a rotten one, from counting words to asking a language model.

Three are fitted on the 4,000 labelled training lines of the sentiment example. The student learns what MiniLM-L6 says of those, and of
2,000 more whose labels nobody looks at. The language model was never trained for this, and is only asked. All answer FRESH or ROTTEN.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, final

from minilm_l3 import minilm_l3, version
from sentiment import (
    FRESH,
    HELD_OUT_LINES,
    ROTTEN,
    Encoder,
    Fitted,
    Reviews,
    SentimentClassifier,
    by_length,
    fitted_to,
    kept,
    load_reviews,
    unlabelled,
)
from smollm2 import SmolLM2

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Classifier = Callable[[list[str]], list[int]]

UNLABELLED_LINES = 2_000
HASHED_WORDS = 2**18
SHRINK = 0.3  # ridge regression's penalty on the student's weights
BATCH_SIZES = {"tfidf": 32, "student": 32, "minilm-l3": 32, "minilm-l6": 32, "smollm2": 16}
LINES = int(os.environ.get("RIGHT_SIZE_LINES", "300"))
LEFT_OUT = os.environ.get("RIGHT_SIZE_WITHOUT", "").split(",")  # candidates that there is no time for now


@final
class Candidates:
    """The models, each loaded or fitted when it is first asked for. `encoder` is MiniLM-L6."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def all(self) -> dict[str, Classifier]:
        """Every candidate by its name, but for those that RIGHT_SIZE_WITHOUT leaves out."""
        wanted = [name for name in BATCH_SIZES if name not in LEFT_OUT]
        return {name: getattr(self, name.replace("-", "_")) for name in wanted}

    @cached_property
    def minilm_l6(self) -> SentimentClassifier:
        """The classifier of the sentiment example."""
        return SentimentClassifier(self._encoder, fitted_to(self._encoder))

    @cached_property
    def minilm_l3(self) -> SentimentClassifier:
        """The same with half the layers."""
        encoder = Encoder(minilm_l3())
        return SentimentClassifier(encoder, fitted_to(encoder, f"minilm-l3-{version()}"))

    @cached_property
    def tfidf(self) -> Classifier:
        """Which words a line has, weighted by how rare they are, in a logistic regression."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        training, _ = load_reviews()
        words = make_pipeline(TfidfVectorizer(sublinear_tf=True, min_df=2), LogisticRegression(max_iter=1_000))
        words.fit(training.lines, training.labels)
        return lambda batch: words.predict(batch).tolist()

    @cached_property
    def student(self) -> Classifier:
        """One layer over hashed words, taught to say what MiniLM-L6 says."""
        vectorizer = _hashed_words()
        fitted = kept(f"student-{UNLABELLED_LINES}-{HASHED_WORDS}-{SHRINK}", lambda: taught_by(self.minilm_l6))

        def classify(batch: list[str]) -> list[int]:
            scores = vectorizer.transform(batch) @ fitted.weights + fitted.bias
            return [FRESH if score > 0 else ROTTEN for score in scores]

        return classify

    @cached_property
    def smollm2(self) -> Classifier:
        """A language model, asked whether it would go on with "positive" or "negative"."""
        model = SmolLM2()
        words = {ROTTEN: " negative", FRESH: " positive"}

        def classify(batch: list[str]) -> list[int]:
            return model.likelier([f"Review: {line}\nSentiment:" for line in batch], [words[ROTTEN], words[FRESH]])

        return classify


def taught_by(teacher: SentimentClassifier) -> Fitted:
    """A student's weights: least squares on the teacher's logits, which tell more of a line than its label does."""
    import numpy as np
    from sklearn.linear_model import Ridge

    lines = sorted(load_reviews()[0].lines + unlabelled(UNLABELLED_LINES), key=len)
    logits: NDArray[np.float32] = np.concatenate([teacher.scores(lines[start : start + 64]) for start in range(0, len(lines), 64)])
    student = Ridge(alpha=SHRINK, solver="lsqr").fit(_hashed_words().transform(lines), logits)
    return Fitted(student.coef_.astype(np.float32), np.array([student.intercept_], dtype=np.float32))


def measured_lines() -> Reviews:
    """The held-out lines that all candidates answer; RIGHT_SIZE_LINES says how many."""
    held_out = load_reviews()[1]
    if not 2 <= LINES <= HELD_OUT_LINES:
        raise SystemExit(f"RIGHT_SIZE_LINES may be 2 to {HELD_OUT_LINES}, not {LINES}.")
    return by_length(Reviews(held_out.lines[:LINES], held_out.labels[:LINES]))


def _hashed_words() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(n_features=HASHED_WORDS)


if __name__ == "__main__":
    print("Fitting the student and its teacher (a minute or two, once) ...")
    Candidates(Encoder()).student  # noqa: B018  it is kept once it has been asked for
