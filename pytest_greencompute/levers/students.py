"""Students: small models that are fitted on the test's own queries, with today's answers as labels.

Each query is answered by a student that was fitted on others, so that its accuracy is what it would be on new queries. It takes as many of
them as there are folds, which differ in one matrix; all are worked out together.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_greencompute.errors import CannotError
from pytest_greencompute.levers.changed import Changed
from pytest_greencompute.levers.queries import listed
from pytest_greencompute.levers.runtime import modules
from pytest_greencompute.levers.sample import can_be_key
from pytest_greencompute.measuring.task import Task
from pytest_greencompute.models.adapters import adapted

__tracebackhide__ = True  # a traceback in a test shows the user's lines and our sentence

FOLDS = 5
MOST_LABELS = 64
LEAST_OF_A_LABEL = 2 * FOLDS  # queries: a fold must leave some to learn from
EARLY = 3  # a third of the layers are asked for their features
LEAST_LAYERS = 3
Features = Callable[[Sequence[Any]], Any]  # of a list of queries, a row each


def students(task: Task, answers: Sequence[Any]) -> dict[str, Student]:
    """The students of a task, by name. Raises CannotError with the reason where there can be none."""
    if importlib.util.find_spec("sklearn") is None:
        raise CannotError("students need scikit-learn: pip install scikit-learn")
    queries, labels = [*listed(Changed(task))], _labels(answers)
    found: dict[str, Student] = {}
    reasons = []
    for name, kind in (("student_words", _words), ("student_layers", _layers)):
        try:
            features, code = kind(task, queries)
            found[name] = _taught(queries, labels, features, code)
        except CannotError as error:
            reasons.append(error.message)
    if not found:
        raise CannotError("; ".join(reasons))
    return found


@dataclass(slots=True)
class Student:
    """A logistic regression on features of the queries. ``weights`` and ``bias`` are those of all folds, by fold and label, ``folds`` say
    which fold each query was left out of. ``code`` are the lines that fit it for good.
    """

    features: Features
    labels: Sequence[Any]
    weights: Any
    bias: Any
    folds: dict[int, int]
    code: str
    kept: Sequence[Any] = field(default=(), repr=False)  # alive, or another query would get the same id
    takes_queries: bool = True

    def __call__(self, batch: Sequence[Any]) -> list[Any]:
        return self.with_confidence(batch)[0]

    def with_confidence(self, batch: Sequence[Any]) -> tuple[list[Any], list[float]]:
        """The answers, and the probability that it gives each. Raises CannotError for queries that it was not fitted beside."""
        import numpy as np

        try:
            fold = [self.folds[_key(query)] for query in batch]
        except KeyError:
            raise CannotError("a student is fitted on the queries as they are") from None
        scores = np.asarray(self.features(batch) @ self.weights) + self.bias
        own = scores.reshape(len(batch), FOLDS, len(self.labels))[np.arange(len(batch)), fold]
        shares = np.exp(own - own.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        best = shares.argmax(axis=1)
        return [self.labels[place] for place in best], [float(row[place]) for row, place in zip(shares, best, strict=True)]


def _key(query: Any) -> int:
    """Not the query itself: a table of queries looks as if answers were kept in it."""
    return hash(query) if can_be_key(query) else id(query)


def _labels(answers: Sequence[Any]) -> list[Any]:
    """The answers as labels. Raises CannotError where they are none."""
    labels = [getattr(each, "item", lambda each=each: each)() if getattr(each, "shape", None) == () else each for each in answers]
    if not all(isinstance(each, str | int) for each in labels):
        raise CannotError("today's answers are no labels")
    counts = {label: labels.count(label) for label in set(labels)} if len(set(labels)) <= MOST_LABELS else {}
    often = [label for label, count in counts.items() if count >= LEAST_OF_A_LABEL]
    if len(often) < 2:
        raise CannotError(f"no two of today's answers come {LEAST_OF_A_LABEL} times: there is nothing to learn")
    return labels


def _taught(queries: Sequence[Any], labels: Sequence[Any], features: Features, code: str) -> Student:
    import numpy as np

    model: Any = importlib.import_module("sklearn.linear_model").LogisticRegression
    known: dict[int, int] = {}
    folds = {key: known.setdefault(key, len(known)) % FOLDS for key in map(_key, queries)}  # a query that comes again is of the same fold
    mine = np.array([folds[_key(query)] for query in queries])
    rows = _rows(features, queries)
    scale = np.ones(rows.shape[1]) if hasattr(rows, "tocsr") else np.maximum(rows.std(axis=0), 1e-9)  # of words all are of one size
    every = sorted(set(labels), key=str)
    weights, bias = np.zeros((rows.shape[1], FOLDS, len(every))), np.full((FOLDS, len(every)), -np.inf)
    for fold in range(FOLDS):
        others = mine != fold
        taught = [label for label, other in zip(labels, others, strict=True) if other]
        if len(set(taught)) < 2:
            raise CannotError("today's answers are too much alike to learn from")
        own = rows[np.flatnonzero(others)]
        fitted = model(max_iter=200).fit(own if hasattr(rows, "tocsr") else own / scale, [every.index(label) for label in taught])
        two = len(fitted.classes_) == 2  # then it keeps the weights of the second alone
        weights[:, fold, fitted.classes_] = np.concatenate([0 * fitted.coef_, fitted.coef_]).T if two else fitted.coef_.T
        bias[fold, fitted.classes_] = np.concatenate([0 * fitted.intercept_, fitted.intercept_]) if two else fitted.intercept_
    return Student(features, every, (weights / scale[:, None, None]).reshape(rows.shape[1], -1), bias.reshape(-1), folds, code, queries)


def _rows(features: Features, queries: Sequence[Any], together: int = 32) -> Any:
    """The features of all queries, sparse where they are."""
    import numpy as np

    found = [features(queries[at : at + together]) for at in range(0, len(queries), together)]
    return importlib.import_module("scipy.sparse").vstack(found).tocsr() if hasattr(found[0], "tocsr") else np.concatenate(found)


def _words(_: Task, queries: Sequence[Any]) -> tuple[Features, str]:
    """How often each word is in a text, the rarer the more. Raises CannotError where the queries are no texts."""
    if not all(isinstance(query, str) for query in queries):
        raise CannotError("the queries are no texts")
    words: Any = importlib.import_module("sklearn.feature_extraction.text").TfidfVectorizer(sublinear_tf=True, min_df=2)
    try:
        words.fit(queries)
    except ValueError as error:
        raise CannotError(f"no word comes twice ({error})") from error
    code = "model = make_pipeline(TfidfVectorizer(sublinear_tf=True, min_df=2), LogisticRegression()).fit(queries, model(queries))"
    return words.transform, code


class _Enough(BaseException):
    """Ends a model's call where its features are known. No Exception, which the model might catch."""

    def __init__(self, output: Any) -> None:
        self.output = output


def _layers(task: Task, _: Sequence[Any]) -> tuple[Features, str]:
    """What the first third of a module's layers makes of a query, on average over its places. Raises CannotError."""
    (module, layer, name) = _early_layer(task)
    call, collate = adapted(task.model, task.batch_size).call, task.collate

    def features(batch: Sequence[Any]) -> Any:
        masks: list[Any] = []

        def see(_: Any, __: Any, keywords: Any) -> None:
            masks.append(keywords.get("attention_mask"))

        def end(_: Any, __: Any, output: Any) -> None:
            raise _Enough(output[0] if isinstance(output, tuple) else output)

        hooks = module.register_forward_pre_hook(see, with_kwargs=True), layer.register_forward_hook(end)
        try:
            call(batch if collate is None else collate(batch))
        except _Enough as enough:
            return _averaged(enough.output, masks[0] if masks else None)
        finally:
            for hook in hooks:
                hook.remove()
        raise CannotError("the model does not call the layers of its module")

    code = f"features = the mean output of {name}; model = LogisticRegression().fit(features(queries), model(queries))"
    return features, code


def _early_layer(task: Task) -> tuple[Any, Any, str]:
    """A module, the last of the first third of its layers, and that one's name."""
    for module in modules(Changed(task)):
        for name, part in module.named_modules():
            layers = [*part.children()] if type(part).__name__ in {"ModuleList", "Sequential"} else []
            if len(layers) >= LEAST_LAYERS and len(set(map(type, layers))) == 1:
                place = max(1, len(layers) // EARLY) - 1
                return module, layers[place], f"{name or 'model'}[{place}]"
    raise CannotError("the model has no layers of one kind")


def _averaged(output: Any, mask: Any) -> Any:
    """The mean over the places of an output, texts' padding left out: an array of a row each."""
    found = output.detach().float()
    if found.ndim == 3 and mask is not None and tuple(mask.shape) == tuple(found.shape[:2]):
        weights = mask.unsqueeze(-1).float()
        found = (found * weights).sum(1) / weights.sum(1).clamp(min=1)
    elif found.ndim > 2:
        found = found.mean(1) if found.ndim == 3 else found.flatten(2).mean(2)
    return found.cpu().numpy()
