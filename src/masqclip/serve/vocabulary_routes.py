"""Routes of vocabularies with examples: made, shown, changed, saved and forgotten."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from masqclip.clip.saved_vocabulary import SavedVocabulary, file_bytes
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.bit_masks import mask_box
from masqclip.data.rle import encode_rle
from masqclip.data.segmentations import segmentation_mask
from masqclip.encoding import EncodedImage
from masqclip.errors import MasqclipError
from masqclip.export.coco import box_xywh
from masqclip.make_examples import fitting_mask
from masqclip.serve.engine import Engine
from masqclip.serve.names_request import SavedDocument, check_bounds, without_categories
from masqclip.serve.problems import Problem
from masqclip.serve.routes import WORK_PROBLEMS, TheEngine, problems
from masqclip.serve.schemas import Rle
from masqclip.serve.uploads import BoundedRoute, from_data_uri
from masqclip.serve.vocabulary_schemas import (
    ExampleRequest,
    KeptVocabulary,
    MaskInfo,
    PlaceRequest,
    VocabularyChange,
    VocabularyRequest,
    described,
    without,
)

router = APIRouter(tags=["vocabularies"], route_class=BoundedRoute)

_EMPTY = SavedVocabulary(())
_PROBLEMS = {**WORK_PROBLEMS, **problems(404)}


@router.post("/v1/images/{image_id}/mask", tags=["pictures"], responses=_PROBLEMS)
async def fit_mask(image_id: str, place: PlaceRequest, engine: TheEngine) -> MaskInfo:
    """The mask that fits a box or a point best: what an example that is given so shows."""
    encoded = engine.stored(image_id)

    def fit() -> MaskInfo:
        mask = fitting_mask(encoded, box=place.box, point=place.point)
        area = int(mask.sum())
        if not area:
            raise MasqclipError("what fits there has no pixel of its own: choose another place")
        bbox = box_xywh(mask_box(mask))
        return MaskInfo(area=area, bbox=bbox, segmentation=Rle(**encode_rle(mask)))

    async with engine.admitted():
        return await engine.on_namer(fit)


@router.post("/v1/vocabularies", status_code=201, responses=_PROBLEMS)
async def make_vocabulary(wish: VocabularyRequest, engine: TheEngine) -> KeptVocabulary:
    """Keep a vocabulary: names, a saved one, examples, or all of them."""
    saved = _EMPTY
    if isinstance(wish.vocabulary, SavedDocument) and not wish.vocabulary.categories:
        read = partial(without_categories, wish.vocabulary, engine.settings.max_names)
        saved = await engine.beside(read)
    elif wish.vocabulary is not None:
        saved = (await engine.read_words(wish)).document()
    elif wish.join is not None:
        words = wish.model_copy(update={"vocabulary": wish.join, "join": None})
        saved = (await engine.read_words(words)).document()
    elif not wish.examples or wish.stuff or wish.things or wish.distractors:
        raise Problem(422, "vocabulary: give names, or a saved vocabulary, or examples alone")
    shown = await _shown(engine, wish.examples)
    saved = await engine.beside(partial(_joined, engine, saved, shown))
    return described(engine.keep_vocabulary(saved), saved)


@router.get("/v1/vocabularies/{vocabulary_id}", responses=problems(401, 404, 422))
async def get_vocabulary(vocabulary_id: str, engine: TheEngine) -> KeptVocabulary:
    """What a vocabulary holds, with a small picture of each example."""
    return described(vocabulary_id, engine.kept_vocabulary(vocabulary_id))


@router.get(
    "/v1/vocabularies/{vocabulary_id}/file",
    responses={200: {"description": "The file."}, **problems(401, 404, 422)},
)
async def save_vocabulary(vocabulary_id: str, engine: TheEngine) -> Response:
    """The vocabulary as a file, which is read wherever a vocabulary is: by the command line, in
    Python, and here."""
    saved = engine.kept_vocabulary(vocabulary_id)
    body = await run_in_threadpool(file_bytes, saved)
    name = {"Content-Disposition": 'attachment; filename="vocabulary.json"'}
    return Response(body, media_type="application/json", headers=name)


@router.patch("/v1/vocabularies/{vocabulary_id}", responses=_PROBLEMS)
async def change_vocabulary(
    vocabulary_id: str, change: VocabularyChange, engine: TheEngine
) -> KeptVocabulary:
    """Add examples to a vocabulary, or remove examples and categories."""
    engine.kept_vocabulary(vocabulary_id)  # before any work
    shown = await _shown(engine, change.add)

    def changed(saved: SavedVocabulary) -> SavedVocabulary:
        return _joined(engine, without(saved, change.remove, change.remove_names), shown)

    async with engine.changing:  # of two changes at a time, both are made
        saved = engine.kept_vocabulary(vocabulary_id)
        saved = await engine.beside(partial(changed, saved))
        engine.keep_vocabulary(saved, vocabulary_id)
    return described(vocabulary_id, saved)


@router.delete(
    "/v1/vocabularies/{vocabulary_id}", status_code=204, responses=problems(401, 404, 422)
)
async def delete_vocabulary(vocabulary_id: str, engine: TheEngine) -> None:
    """Forget a vocabulary now."""
    engine.forget_vocabulary(vocabulary_id)


async def _shown(engine: Engine, wishes: list[ExampleRequest]) -> SavedVocabulary:
    """What examples show, each picture encoded once."""
    found = _EMPTY
    if not wishes:
        return found
    for wish in wishes:  # refused before any work
        if not wish.image.lstrip().lower().startswith("data:"):
            engine.stored(wish.image)
    uploads = {
        wish.image: await engine.open(await run_in_threadpool(from_data_uri, wish.image))
        for wish in wishes
        if wish.image.lstrip().lower().startswith("data:")
    }
    async with engine.admitted():
        for image in dict.fromkeys(wish.image for wish in wishes):
            if image in uploads:
                encoded = await engine.encode(uploads[image])
            else:
                encoded = await engine.encode_again(engine.stored(image))
            for wish in wishes:
                if wish.image == image:
                    more = await engine.on_namer(partial(_example, engine, encoded, wish))
                    found = found.joined(more)
    return found


def _example(engine: Engine, encoded: EncodedImage, wish: ExampleRequest) -> SavedVocabulary:
    mask = None
    if wish.segmentation is not None:
        given = wish.segmentation
        plain = given.model_dump() if isinstance(given, Rle) else given
        try:
            mask = segmentation_mask(plain, encoded.image.height, encoded.image.width)
        except MasqclipError as error:
            raise MasqclipError(f"the example of {wish.name[:100]!r}: {error}") from error
    prompts = wish.prompts
    if prompts is None and wish.distractor:
        prompts = []  # "not this" says nothing to CLIP
    made = engine.segmenter.example(
        wish.name,
        encoded,
        mask,
        box=wish.box,
        point=wish.point,
        prompts=prompts,
        stuff=wish.stuff,
    )
    return SavedVocabulary((), made.categories) if wish.distractor else made.document()


def _joined(engine: Engine, saved: SavedVocabulary, shown: SavedVocabulary) -> SavedVocabulary:
    """Both together, if the model and the bounds let it be."""
    whole = saved.joined(shown)
    settings = engine.settings
    check_bounds(whole, max_names=settings.max_names, max_examples=settings.max_examples)
    if whole.categories or whole.distractors:
        # What something is not is no vocabulary yet, but may be put to one.
        rivals = replace(whole, categories=whole.rivals, distractors=(), assumed=())
        words = Vocabulary.from_document(whole if whole.categories else rivals)
        engine.segmenter.text.check(words)
        whole = words.document() if whole.categories else whole
    return whole
