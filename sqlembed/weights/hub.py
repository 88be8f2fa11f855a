"""Get a model's files from the model hub, when asked to and at no other time."""

from pathlib import Path

from sqlembed.errors import ModelError
from sqlembed.weights.manifest import Hub

WANTED = [
    "config.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "1_Pooling/config.json",
]
"""What the reader of safetensors looks at."""


def download(hub: Hub, into: Path) -> None:
    """Download the files of *hub* that a conversion reads, into the directory *into*.

    :raises ModelError: no network, no such repository, or access is refused
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    try:
        huggingface_hub.snapshot_download(
            hub.repository, revision=hub.revision, allow_patterns=WANTED, local_dir=into
        )
    except (HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        first = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"could not get {hub.repository} (revision {hub.revision}) from the model hub: {first};"
            " check the network, or pull without --hub"
        ) from error
