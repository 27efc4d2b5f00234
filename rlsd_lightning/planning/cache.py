"""Keys and values of one token: what every engine keeps of it."""

from __future__ import annotations

from rlsd_lightning.planning.architecture import TextShape
from rlsd_lightning.planning.setup import Precision


def kv_bytes_per_token(text: TextShape, precision: Precision) -> float:
    """Return the bytes of one token's keys and values in all layers.

    Under autocast values come out of a matmul in bfloat16, but keys out of a norm with float32 weights.

    Example:
        Qwen3-VL-8B: 36 layers, 8 heads of 128, keys and values in bfloat16: 2 x 36 x 1024 x 2.

        >>> from rlsd_lightning.planning.architecture import read_architecture
        >>> from rlsd_lightning.planning.setup import read_precision
        >>> bf16 = read_precision("bf16-mixed", "float32", "zero2")
        >>> kv_bytes_per_token(read_architecture("Qwen/Qwen3-VL-8B-Instruct").text, bf16)
        147456
    """
    return text.num_layers * text.kv_size * (precision.stream + precision.matmul)
