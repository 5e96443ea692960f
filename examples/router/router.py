"""A classifier in front of a language model: MiniLM answers, and only lines of which it is not sure go on to SmolLM2."""

from __future__ import annotations

import os
from typing import Any, final

from sentiment import FRESH, ROTTEN, SentimentClassifier
from smollm2 import SmolLM2

UNSURE = 0.3  # logits: at less than this on either side of 0, MiniLM itself gives its answer 57 % at most
SHOTS = (
    "Review: a warm, funny film with a wonderful cast.\nSentiment: positive\n\n"
    "Review: dull and far too long, and nobody in it seems to care.\nSentiment: negative\n\n"
)


@final
class Router:
    """A batch of review lines in, FRESH or ROTTEN for each out.

    `generate` is what asks the language model: prompts in, the ids of what it writes out. A test may put a watched one in its place.
    """

    def __init__(self, classifier: SentimentClassifier, model: SmolLM2, *, unsure: float = UNSURE) -> None:
        self._classifier, self._model, self._unsure = classifier, model, unsure
        self.tokenizer: Any = model.tokenizer
        self.generate = model.write

    def __call__(self, batch: list[str]) -> list[int]:
        scores = self._classifier.scores(batch)
        answers = [FRESH if score > 0 else ROTTEN for score in scores]
        unsure = [place for place, score in enumerate(scores) if abs(score) < self._unsure]
        if unsure:
            written = self.generate([f"{SHOTS}Review: {batch[place]}\nSentiment:" for place in unsure], max_new_tokens=3)
            for place, ids in zip(unsure, written, strict=True):
                answers[place] = self._verdict(ids, otherwise=answers[place])
        return answers

    def _verdict(self, ids: list[int], otherwise: int) -> int:
        """What the language model says; MiniLM's answer stands where it says neither of the two words."""
        said = self._model.text(ids).lower()
        return FRESH if said.startswith("positive") else ROTTEN if said.startswith("negative") else otherwise


def configured() -> float:
    """Below how many logits MiniLM counts as unsure; ROUTER_UNSURE=5 sends nearly everything on, as a careless change might."""
    written = os.environ.get("ROUTER_UNSURE", str(UNSURE))
    try:
        return float(written)
    except ValueError:
        raise SystemExit(f"ROUTER_UNSURE must be a number of logits, not {written!r}.") from None
