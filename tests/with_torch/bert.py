"""The encoder of MiniLM-L6 (BERT, Devlin et al. 2018, arXiv:1810.04805), as small as it goes.

Every module and parameter is called as in the published weights, so that they load by name.
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

# What a masked position's attention score is lowered by; holds in 16-bit floats as well.
MASKED = 10_000.0


class Attention(nn.Module):
    """Multi-head self-attention over ``[N, S, width]``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, states: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Attend; ``bias`` is added to the scores, [N, 1, 1, S]."""
        query, key, value = (
            layer(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(key.shape[-1]) + bias
        return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


class Output(nn.Module):
    """A linear layer, the residual connection and the norm."""

    def __init__(self, inner: int, width: int, epsilon: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, epsilon)

    def forward(self, inner: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dense(inner) + residual)


class Layer(nn.Module):
    """Attention, then two dense layers with GELU between them."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        epsilon = config["layer_norm_eps"]
        self.attention = nn.ModuleDict(
            {
                "self": Attention(width, config["num_attention_heads"]),
                "output": Output(width, width, epsilon),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = Output(inner, width, epsilon)

    def forward(self, states: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        attended = self.attention["output"](self.attention["self"](states, bias), states)
        inner = nn.functional.gelu(self.intermediate["dense"](attended))
        return self.output(inner, attended)


class Embeddings(nn.Module):
    """Words, positions and segments, summed and normed."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.word_embeddings = nn.Embedding(config["vocab_size"], width)
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], width)
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], width)
        self.LayerNorm = nn.LayerNorm(width, config["layer_norm_eps"])

    def forward(self, ids: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device)
        words = self.word_embeddings(ids) + self.token_type_embeddings(types)
        return self.LayerNorm(words + self.position_embeddings(positions))


class SentenceEncoder(nn.Module):
    """Token ids, mask and segment ids, each int64 ``[N, S]``, to unit vectors ``[N, width]``."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))}
        )

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        kept = mask.to(torch.float32)
        bias = (kept[:, None, None, :] - 1) * MASKED
        states = self.embeddings(ids, types)
        for layer in self.encoder["layer"]:
            states = layer(states, bias)
        # The mean over the tokens, normed: what sentence-transformers does with this model.
        total = (states * kept[..., None]).sum(1)
        return nn.functional.normalize(total / kept.sum(1, keepdim=True))


def load(folder: Path) -> SentenceEncoder:
    """Return the encoder with the weights of ``folder``; only what pools otherwise is left out."""
    model = SentenceEncoder(json.loads((folder / "config.json").read_text()))
    weights = load_file(folder / "model.safetensors")
    unused = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}
    model.load_state_dict({name: value for name, value in weights.items() if name not in unused})
    return model.eval()
