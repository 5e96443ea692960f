"""The sentiment classifier as one torch module, so that it can be measured in other precisions."""

from __future__ import annotations

from typing import Any, final

import torch
from sentiment import Encoder, Fitted, fitted_to, mean_embedding


@final
class FreshOrRotten(torch.nn.Module):
    """A batch of tokens in, a tensor with FRESH or ROTTEN for each line out."""

    def __init__(self, bert: torch.nn.Module, fitted: Fitted) -> None:
        super().__init__()
        self.bert = bert
        self.head = torch.nn.Linear(len(fitted.weights), 1)
        self.head.weight.data[0] = torch.from_numpy(fitted.weights)
        self.head.bias.data = torch.from_numpy(fitted.bias)

    def forward(self, tokens: dict[str, Any]) -> torch.Tensor:
        return (self.head(mean_embedding(self.bert, tokens))[:, 0] > 0).long()


def fresh_or_rotten(encoder: Encoder) -> FreshOrRotten:
    """The module that answers as the classifier over `encoder` does."""
    device = next(encoder.model.parameters()).device
    return FreshOrRotten(encoder.model, fitted_to(encoder)).to(device).eval()


def leanest_precision() -> str:
    """What a team would have chosen for this machine: int8 on a processor, bfloat16 on a GPU."""
    return "bf16" if torch.cuda.is_available() else "int8"
