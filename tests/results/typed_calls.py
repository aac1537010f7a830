"""Every public call of a segmenter, its results, vocabularies and encoded pictures.

mypy says the type of each `reveal_type`; test_types.py reads what it says. Never run.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, reveal_type

import numpy as np
import torch
from PIL import Image

from masqclip import Segment, Segmentation, Segmenter, Vocabulary
from masqclip.encoding import EncodedImage


def of_a_segmenter(array: np.ndarray, picture: Image.Image, tensor: torch.Tensor) -> None:
    segmenter = Segmenter.from_pretrained("photo", device="cpu", dtype="float32", size=800)
    reveal_type(segmenter)  # Segmenter
    reveal_type(Segmenter.from_parts("clip", "proposer", size=(1, 2)))  # Segmenter
    reveal_type(segmenter("a.png", "cat"))  # Segmentation
    reveal_type(segmenter(Path("a.png"), ["cat", "dog"], "semantic"))  # Segmentation
    reveal_type(segmenter(b"", {"car": ["car", "lorry"]}))  # Segmentation
    reveal_type(segmenter(array, Path("names.txt"), channels="bgr"))  # Segmentation
    reveal_type(segmenter(picture, Vocabulary.parse("cat"), min_score=0.5))  # Segmentation
    reveal_type(segmenter(tensor, "cat", stuff="sky", things=["sand"]))  # Segmentation
    reveal_type(segmenter(segmenter.encode("a.png"), "cat"))  # Segmentation
    reveal_type(segmenter(["a.png", "b.png"], "cat"))  # list[Segmentation]
    reveal_type(segmenter([array, picture, "a.png"], "cat"))  # list[Segmentation]
    reveal_type(segmenter((array,), "cat"))  # list[Segmentation]
    reveal_type(segmenter([Path("a.png")], "cat"))  # list[Segmentation]
    reveal_type(segmenter.encode("a.png"))  # EncodedImage
    reveal_type(segmenter.encode(array, channels="bgr"))  # EncodedImage
    reveal_type(segmenter.encode(["a.png", "b.png"]))  # list[EncodedImage]
    reveal_type(segmenter.encode([array, array]))  # list[EncodedImage]
    reveal_type(segmenter.stream("photos", "cat", progress=True))  # Iterator[Segmentation]
    reveal_type(segmenter.stream(array, "cat"))  # Iterator[Segmentation]
    reveal_type(segmenter.stream([array], "cat", errors="skip"))  # Iterator[Segmentation]
    reveal_type(segmenter.stream(iter(["a.png"]), "cat"))  # Iterator[Segmentation]
    reveal_type([result.path for result in segmenter.stream("a", "b")])  # list[Path | None]
    reveal_type(segmenter.embed_masks("a.png", tensor))  # Tensor
    named = segmenter.classify_masks(array, [array], "cat")
    reveal_type(named)  # MaskClassification
    reveal_type(named.names)  # tuple[str, ...]
    reveal_type(named.scores)  # tuple[float, ...]
    reveal_type(named.probs)  # ndarray[floating]
    reveal_type(named.vocabulary)  # tuple[str, ...]
    reveal_type(segmenter.notes_on(Vocabulary.parse("cat"), "semantic"))  # tuple[str, ...]
    reveal_type(segmenter.save_pretrained("folder"))  # None
    reveal_type(segmenter.compile())  # None
    reveal_type(segmenter.device)  # device
    reveal_type(segmenter.name)  # str
    reveal_type(segmenter.world)  # OwnWorld | None
    reveal_type(segmenter.model)  # MasQClipModel
    reveal_type(segmenter.text)  # TextEncoder


def of_a_result(result: Segmentation, file: BinaryIO) -> None:
    reveal_type(result[0])  # Segment
    reveal_type(result[np.int64(0)])  # Segment
    reveal_type(result[1:])  # Segmentation
    reveal_type(result["car"])  # Segmentation
    reveal_type(result[["car", "bus"]])  # Segmentation
    reveal_type(result[[0, 2]])  # Segmentation
    reveal_type(result[[True, False]])  # Segmentation
    reveal_type(result[result.scores > 0.5])  # Segmentation
    reveal_type(result[result.class_ids])  # Segmentation
    reveal_type(result[torch.tensor([0])])  # Segmentation
    reveal_type(list(result))  # list[Segment]
    reveal_type(len(result))  # int
    reveal_type("car" in result)  # bool
    reveal_type(result.image)  # ndarray[unsigned]
    reveal_type(result.size)  # tuple[int, int]
    reveal_type(result.task)  # Literal
    reveal_type(result.names)  # tuple[str, ...]
    reveal_type(result.labels)  # tuple[str, ...]
    reveal_type(result.segments)  # tuple[Segment, ...]
    reveal_type(result.notes)  # tuple[str, ...]
    reveal_type(result.path)  # Path | None
    reveal_type(result.timing)  # TypedDict
    reveal_type(result.timing["encoding"])  # float
    reveal_type(result.masks)  # ndarray[bool]
    reveal_type(result.boxes)  # ndarray[signed]
    reveal_type(result.scores)  # ndarray[float64]
    reveal_type(result.class_ids)  # ndarray[signed]
    reveal_type(result.label_map)  # ndarray[signed]
    reveal_type(result.polygons(tolerance=1.0))  # list[list[ndarray]]
    reveal_type(result.summary())  # str
    reveal_type(result.plot(opacity=0.3))  # Image
    reveal_type(result.show())  # None
    reveal_type(result.save("a.jpg"))  # Path
    reveal_type(result.save(file, format="png"))  # None
    reveal_type(result.crop(margin=3))  # list[Image]
    reveal_type(result.cut_outs())  # list[Image]
    reveal_type(result.to_json())  # TypedDict
    reveal_type(result.to_json()["segments"][0]["segmentation"]["counts"])  # str
    reveal_type(Segmentation.from_json(result.to_json(), channels="bgr"))  # Segmentation
    reveal_type(result.to_coco(3, category_ids=[7]))  # list[TypedDict]
    reveal_type(result.to_coco()[0]["bbox"])  # list[float]
    reveal_type(result.segments_info())  # list[TypedDict]
    reveal_type(result.to_yolo())  # list[str]
    reveal_type(result.to_label_studio("polygon"))  # list[TypedDict]
    reveal_type(result.to_label_studio()[0]["value"]["rle"])  # list[int]
    reveal_type(result.to_labelme("a.json", kind="mask"))  # TypedDict
    reveal_type(result.to_labelme()["shapes"][0]["points"])  # list[list[float]]
    reveal_type(result.to_voc(Path("a.xml")))  # str
    reveal_type(result.to_cvat(kind="box", image_name="a.png"))  # str
    reveal_type(result.panoptic_png())  # bytes
    reveal_type(result.to_panoptic_png("a.png"))  # list[TypedDict]
    reveal_type(result.to_semantic_png("a.png"))  # Path
    reveal_type(result.to_mask_pngs("masks"))  # list[Path]
    reveal_type(result.to_supervision())  # Detections
    reveal_type(result.to_dataframe())  # DataFrame
    reveal_type(result.to_fiftyone())  # Detections | Segmentation


def of_a_segment(segment: Segment) -> None:
    reveal_type(segment.id)  # int
    reveal_type(segment.name)  # str
    reveal_type(segment.class_id)  # int
    reveal_type(segment.score)  # float
    reveal_type(segment.thing)  # bool
    reveal_type(segment.mask)  # ndarray[bool]
    reveal_type(segment.box)  # tuple[int, int, int, int]
    reveal_type(segment.area)  # int
    reveal_type(segment.polygons())  # list[ndarray]


def of_a_vocabulary() -> None:
    words = Vocabulary.parse(["cat", {"name": "dog"}], stuff="sky", templates="a {}")
    reveal_type(words)  # Vocabulary
    reveal_type(Vocabulary.parse({0: "cat"}))  # Vocabulary
    reveal_type(len(words))  # int
    reveal_type(words.names)  # tuple[str, ...]
    reveal_type(words.categories)  # tuple[Category, ...]
    reveal_type(words.categories[0].prompts)  # tuple[str, ...]
    reveal_type(words.distractors)  # tuple[str, ...]
    reveal_type(words.templates)  # tuple[str, ...]
    reveal_type(words.assumed)  # tuple[str, ...]
    reveal_type(words.stuff_ids)  # frozenset[int]
    reveal_type(words.counted)  # Vocabulary
    reveal_type(words.subset(["cat"]))  # Vocabulary


def of_an_encoded_picture(encoded: EncodedImage, segmenter: Segmenter) -> None:
    reveal_type(encoded.image)  # LoadedImage
    reveal_type(encoded.image.pixels)  # ndarray[unsigned]
    reveal_type(encoded.image.path)  # Path | None
    reveal_type(encoded.mask_logits)  # Tensor
    reveal_type(encoded.object_logits)  # Tensor
    reveal_type(encoded.mask_embeddings)  # Tensor
    reveal_type(encoded.pixel_embeddings)  # Tensor | None
    reveal_type(encoded.tokens)  # ImageTokens
    reveal_type(encoded.frame_size)  # tuple[int, int]
    reveal_type(encoded.resized)  # tuple[int, int]
    reveal_type(encoded.seconds)  # float | None
    reveal_type(encoded.masks)  # ResizedMasks
    rows = encoded.mask_embeddings
    reveal_type(encoded.named(segmenter.model, rows, 3))  # tuple[ResizedMasks, Tensor]
