"""The table of results: a row a picture, its segments in it, or the error that kept it out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from masqclip.clip.vocabulary import Vocabulary

if TYPE_CHECKING:
    from masqclip.result import Segmentation

#: A segment reads as in `Segmentation.to_json`, but for its score, which is not rounded.
SEGMENT = pa.struct(
    [
        ("id", pa.int32()),
        ("name", pa.string()),
        ("class_id", pa.int32()),
        ("score", pa.float32()),
        ("thing", pa.bool_()),
        ("area", pa.int64()),
        ("bbox", pa.list_(pa.float32())),  # x, y, width, height
        ("segmentation", pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])),
    ]
)
RECORDS = pa.schema(
    [
        ("key", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("error", pa.string()),  # null where the picture was read
        ("notes", pa.list_(pa.string())),
        ("segments", pa.list_(SEGMENT)),
    ]
)


#: The ids of a picture's annotations are its own id times this, and upwards: more segments than a
#: picture has. Shards know nothing of each other.
ANNOTATIONS_PER_IMAGE = 100_000


def result_record(key: str, result: Segmentation) -> dict[str, Any]:
    """One picture's row of `RECORDS`."""
    document = result.to_json()
    segments = [
        entry | {"score": segment.score}
        for entry, segment in zip(document["segments"], result.segments, strict=True)
    ]
    return {
        "key": key,
        "height": document["height"],
        "width": document["width"],
        "error": None,
        "notes": document["notes"],
        "segments": segments,
    }


def error_record(key: str, error: str) -> dict[str, Any]:
    """The row of a picture that could not be read."""
    # An error of the system may name a file whose name is no text.
    text = error.encode("utf-8", "backslashreplace").decode()
    return {"key": key, "error": text, "notes": [], "segments": []}


def write_parquet(file: BinaryIO, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write tables as one Parquet file, a row group each: the same tables, the same bytes.

    Floating-point numbers are split into their bytes, which is what lets them be compressed.
    """
    floats = [path for field in schema for path in _float_columns(field)]
    with pq.ParquetWriter(
        file,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=1,
        use_dictionary=[field.name for field in schema if pa.types.is_string(field.type)],
        use_byte_stream_split=floats,
    ) as writer:
        for table in tables:
            writer.write_table(table)


def _float_columns(field: pa.Field) -> list[str]:
    listed = pa.types.is_list(field.type) and pa.types.is_floating(field.type.value_type)
    return [f"{field.name}.list.element"] if listed else []


def coco_document(rows: Iterable[dict[str, Any]], words: Vocabulary, first_id: int) -> bytes:
    """Rows of `RECORDS` as a COCO instances file.

    Pictures that could not be read are listed with their ``error`` and no annotation.

    Args:
        rows: of one shard.
        words: its names, in order, are the categories; ``id`` counts from 1.
        first_id: the ``image_id`` of the first row. Annotation ids are made of their pictures', so
            that both are unique in all files of a job.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, row in enumerate(rows, first_id):
        image = {"id": image_id, "file_name": row["key"]}
        if row["error"] is not None:
            images.append(image | {"error": row["error"]})
            continue
        images.append(image | {"height": row["height"], "width": row["width"]})
        for number, segment in enumerate(row["segments"], 1):
            annotations.append(
                {
                    "id": image_id * ANNOTATIONS_PER_IMAGE + number,
                    "image_id": image_id,
                    "category_id": segment["class_id"] + 1,
                    "segmentation": segment["segmentation"],
                    "area": segment["area"],
                    "bbox": segment["bbox"],
                    "score": segment["score"],
                    "iscrowd": 0,
                }
            )
    categories = [
        {"id": n, "name": category.name, "isthing": int(category.thing)}
        for n, category in enumerate(words.categories, 1)
    ]
    document = {
        "info": {"description": "masks that masqclip found; a model's guesses"},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    return (json.dumps(document) + "\n").encode()
