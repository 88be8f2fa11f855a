"""JinaBERT's arithmetic: BERT with a bias by distance (ALiBi) for positions, and a gated middle.

transformers has no such model, since it came with code of its own. Written from the paper
(https://arxiv.org/abs/2310.19923, section 2; the bias is https://arxiv.org/abs/2108.12409's,
made symmetric), with the parameters' names of jinaai/jina-bert-implementation on the hub.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import gelu


class Attention(nn.Module):
    """Heads that see a token the less the further away it is."""

    def __init__(self, width: int, heads: int, epsilon: float) -> None:
        """Make the four matrices and the norm."""
        super().__init__()
        self.heads = heads
        self.self = nn.ModuleDict(
            {name: nn.Linear(width, width) for name in ("query", "key", "value")}
        )
        self.output = nn.ModuleDict(
            {"dense": nn.Linear(width, width), "LayerNorm": nn.LayerNorm(width, epsilon)}
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Mix the tokens of one text, of shape (tokens, width)."""
        count, width = x.shape
        query, key, value = (
            self.self[name](x).view(count, self.heads, -1).transpose(0, 1)
            for name in ("query", "key", "value")
        )
        scores = query @ key.transpose(1, 2) / (width / self.heads) ** 0.5
        places = torch.arange(count)
        distance = (places[None] - places[:, None]).abs()
        slopes = 2.0 ** (-8 * torch.arange(1, self.heads + 1) / self.heads)
        scores = scores - slopes[:, None, None] * distance
        mixed = (scores.softmax(-1) @ value).transpose(0, 1).reshape(count, width)
        return self.output["LayerNorm"](self.output["dense"](mixed) + x)


class Middle(nn.Module):
    """GEGLU: half of what comes out of the first matrix is a gate for the other half."""

    def __init__(self, width: int, inner: int, epsilon: float) -> None:
        """Make the two matrices and the norm."""
        super().__init__()
        self.gated_layers = nn.Linear(width, 2 * inner, bias=False)
        self.wo = nn.Linear(inner, width)
        self.layernorm = nn.LayerNorm(width, epsilon)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Change each token by itself."""
        gate, other = self.gated_layers(x).chunk(2, -1)
        return self.layernorm(self.wo(gelu(gate) * other) + x)


class Layer(nn.Module):
    """Attention, then the middle."""

    def __init__(self, width: int, heads: int, inner: int, epsilon: float) -> None:
        """Make both."""
        super().__init__()
        self.attention = Attention(width, heads, epsilon)
        self.mlp = Middle(width, inner, epsilon)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One layer of one text."""
        return self.mlp(self.attention(x))


class JinaBert(nn.Module):
    """The encoder, and where *labels* are asked for BERT's head on the first token."""

    def __init__(
        self, tokens: int, width: int, heads: int, inner: int, layers: int, labels: int = 0
    ) -> None:
        """Make all parts."""
        super().__init__()
        epsilon = 1e-12
        self.shape = (tokens, width, heads, inner, layers)
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(tokens, width),
                "token_type_embeddings": nn.Embedding(2, width),
                "LayerNorm": nn.LayerNorm(width, epsilon),
            }
        )
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(Layer(width, heads, inner, epsilon) for _ in range(layers))}
        )
        self.pooler = nn.ModuleDict({"dense": nn.Linear(width, width)}) if labels else None
        self.classifier = nn.Linear(width, labels) if labels else None

    def forward(self, ids: list[int]) -> torch.Tensor:
        """The token vectors of one text, of shape (tokens, width)."""
        x = self.embeddings["word_embeddings"](torch.tensor(ids))
        x = x + self.embeddings["token_type_embeddings"](torch.zeros(len(ids), dtype=torch.long))
        x = self.embeddings["LayerNorm"](x)
        for layer in self.encoder["layer"]:
            x = layer(x)
        return x

    def classify(self, ids: list[int]) -> torch.Tensor:
        """The logits of one text or pair, of shape (labels,)."""
        return self.classifier(self.pooler["dense"](self(ids)[0]).tanh())

    def save_pretrained(self, directory: Path) -> None:
        """Write what llama.cpp's converter reads."""
        tokens, width, heads, inner, layers = self.shape
        config = {
            "architectures": ["JinaBertForMaskedLM"],
            "model_type": "bert",
            "hidden_size": width,
            "num_attention_heads": heads,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "vocab_size": tokens,
            "type_vocab_size": 2,
            "max_position_embeddings": 1024,
            "layer_norm_eps": 1e-12,
            "position_embedding_type": "alibi",
            "feed_forward_type": "geglu",
        }
        (directory / "config.json").write_text(json.dumps(config))
        prefix = "bert." if self.classifier else ""
        stored = {
            name if name.startswith("classifier") else prefix + name: tensor
            for name, tensor in self.state_dict().items()
        }
        save_file(stored, directory / "model.safetensors")
