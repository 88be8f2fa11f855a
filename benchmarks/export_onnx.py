"""Make the ONNX graph that onnxruntime is timed on, its operators fused by onnxruntime's own tool.

Runs in the peers' environment, and imports nothing of sqlembed. torch's older exporter, since the
fusion of attention does not know what the newer one writes.
"""

import sys
from pathlib import Path

import torch
from onnxruntime.transformers import optimizer
from transformers import AutoModel

INPUTS = ("ids", "mask", "segments")
OPSET = 17


class HiddenStates(torch.nn.Module):
    """A BERT whose inputs come in an order, and whose output is one tensor."""

    def __init__(self, bert: torch.nn.Module) -> None:
        """Wrap *bert*."""
        super().__init__()
        self.bert = bert

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, segments: torch.Tensor
    ) -> torch.Tensor:
        """The last hidden states, ``(batch, length, dimension)``."""
        found = self.bert(input_ids=ids, attention_mask=mask, token_type_ids=segments)
        return found.last_hidden_state


def main(model: str) -> None:
    """Write ``model.onnx`` into the directory *model*."""
    bert = AutoModel.from_pretrained(model, attn_implementation="eager").eval()
    target, plain = Path(model) / "model.onnx", Path(model) / "plain.onnx"
    ids = torch.ones(2, 8, dtype=torch.long)
    axes = {0: "batch", 1: "length"}
    torch.onnx.export(
        HiddenStates(bert),
        (ids, ids, torch.zeros_like(ids)),
        plain,
        input_names=list(INPUTS),
        output_names=["hidden"],
        dynamic_axes=dict.fromkeys((*INPUTS, "hidden"), axes),
        opset_version=OPSET,
        dynamo=False,
    )
    fused = optimizer.optimize_model(
        str(plain),
        model_type="bert",
        num_heads=bert.config.num_attention_heads,
        hidden_size=bert.config.hidden_size,
    )
    if fused.get_fused_operator_statistics()["Attention"] != bert.config.num_hidden_layers:
        sys.exit("onnxruntime's optimizer left operators apart: it would be timed below its best")
    fused.save_model_to_file(str(target))
    plain.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
