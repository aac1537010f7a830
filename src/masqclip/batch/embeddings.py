"""Encoded pictures as a table: what flows from the image side to the words, and can be kept.

The numbers are kept as float32, as the model gave them, without loss: names read from a kept table
are those of the job that kept it, to the last bit. A table holds no pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from masqclip.data.images import LoadedImage

if TYPE_CHECKING:  # the stages that only read and write have no need of torch
    import torch

    from masqclip.encoding import EncodedImage

_FLOATS = pa.list_(pa.float32())
#: Q proposals, h w their grid, E the embedding size; arrays are flat, in C order.
EMBEDDINGS = pa.schema(
    [
        ("key", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("error", pa.string()),  # null where the picture was read
        ("notes", pa.list_(pa.string())),
        ("frame_size", pa.list_(pa.int32())),
        ("resized", pa.list_(pa.int32())),
        ("grid", pa.list_(pa.int32())),  # Q, h, w
        ("mask_logits", _FLOATS),  # [Q, h, w]
        ("object_logits", _FLOATS),  # [Q, 2]
        ("mask_embeddings", _FLOATS),  # [Q, E]
    ]
)
#: The same with the pictures themselves, for the stages that draw on them.
EMBEDDINGS_AND_PIXELS = EMBEDDINGS.append(pa.field("pixels", pa.large_binary()))


def encoded_row(key: str, encoded: EncodedImage, *, pixels: bool = False) -> dict[str, Any]:
    """One picture's row of `EMBEDDINGS`, or with `pixels` of `EMBEDDINGS_AND_PIXELS`."""
    image = encoded.image
    row = {
        "key": key,
        "height": image.height,
        "width": image.width,
        "error": None,
        "notes": list(image.notes),
        "frame_size": list(encoded.frame_size),
        "resized": list(encoded.resized),
        "grid": list(encoded.mask_logits.shape),
        "mask_logits": _flat(encoded.mask_logits),
        "object_logits": _flat(encoded.object_logits),
        "mask_embeddings": _flat(encoded.mask_embeddings),
    }
    return row | {"pixels": image.pixels.tobytes()} if pixels else row


def encoded_image(table: pa.Table, index: int, device: torch.device) -> EncodedImage:
    """The picture of a row, ready to be named; its tokens are gone, and so may its pixels be."""
    from masqclip.clip.masked_vision import ImageTokens
    from masqclip.encoding import EncodedImage

    height, width = table["height"][index].as_py(), table["width"][index].as_py()
    if "pixels" in table.column_names:
        buffer = table["pixels"][index].as_buffer()
        pixels = np.frombuffer(buffer, np.uint8).reshape(height, width, 3)
    else:
        pixels = np.broadcast_to(np.uint8(0), (height, width, 3))  # a size, and no memory
    grid = table["grid"][index].as_py()
    return EncodedImage(
        image=LoadedImage(
            pixels, tuple(table["notes"][index].as_py()), table["key"][index].as_py()
        ),
        mask_logits=_tensor(table, "mask_logits", index, device).view(grid),
        object_logits=_tensor(table, "object_logits", index, device).view(grid[0], 2),
        mask_embeddings=_tensor(table, "mask_embeddings", index, device).view(grid[0], -1),
        tokens=ImageTokens((), ()),
        frame_size=tuple(table["frame_size"][index].as_py()),
        resized=tuple(table["resized"][index].as_py()),
    )


def _flat(values: torch.Tensor) -> np.ndarray:
    return values.float().cpu().numpy().ravel()


def _tensor(table: pa.Table, name: str, index: int, device: torch.device) -> torch.Tensor:
    import torch

    # Copied, and to torch's own memory: where numbers start decides in which order some processors
    # add them up, and a rerun is to give the same bytes.
    return torch.tensor(table[name][index].values.to_numpy(zero_copy_only=True), device=device)
