"""Contrastive pretraining of a small CLIP on pictures with captions (Radford et al., 2021).

The shipped miniature stands on this: a CLIP that has read captions of every thing of its world and
has never seen a mask. Notable choices:

- Small pictures are windows. A picture smaller than CLIP's input becomes a patch-aligned window of
  it at a random place, with just that window's position embeddings. A window of a third of the
  patches costs a third of the time, and things keep the size they will have in whole pictures.
- The tokenizer is a byte-level BPE in CLIP's own format, learned from the captions, because the
  49,152 words of the original would be most of a small model's weight.
- A picture may have several captions, each of which describes it: all of them are its positives,
  and captions that say the same are one. Captions of pictures that are not in the batch may join as
  negatives (`extra_captions`): a text costs far less than a picture, and a small batch then
  compares with as many texts as a large one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from masqclip.clip.loading import load_clip_and_tokenizer
from masqclip.clip.normalisation import (
    OPENAI,
    ClipNormalisation,
    clip_normalisation,
    write_normalisation,
)
from masqclip.data.coco import CocoCaptions
from masqclip.data.digests import combine_digests, digest_model
from masqclip.errors import MasqclipError
from masqclip.hub import find_weights
from masqclip.training.distributed import gather_rows
from masqclip.training.sampling import SkippedPictures, step_indices
from masqclip.training.settings import PretrainSettings
from masqclip.training.stage import WHOLE, Counts, Share, Stage

_START, _END = "<|startoftext|>", "<|endoftext|>"


class PretrainStage(Stage):
    """Trains a CLIP from nothing; see the module's text.

    Args:
        folders: caption folders; each step takes one of them, in proportion to their sizes, and
            all pictures of a folder have one size.
        settings: the CLIP and its training.
        start: the folder of a CLIP to go on from, with its tokenizer; a new one by default.

    Raises:
        MasqclipError: a folder is empty, `start` holds no CLIP of these sizes, or the pictures do
            not fit the patches.
    """

    name = "pretrain"
    module: CLIPModel
    accumulates = False  # every picture of a batch is compared with every caption of it

    def __init__(
        self,
        folders: Sequence[str | Path],
        settings: PretrainSettings,
        *,
        start: str | Path | None = None,
    ) -> None:
        self.settings = settings
        self._start = None if start is None else find_weights(start, what="CLIP")
        self.datasets = [CocoCaptions(folder) for folder in folders]
        if not self.datasets or any(len(dataset) == 0 for dataset in self.datasets):
            raise MasqclipError("pretraining needs folders with captioned pictures; one is empty")
        self.notes = tuple(note for dataset in self.datasets for note in dataset.notes)
        self.skipped = SkippedPictures(sum(map(len, self.datasets)))
        self.normalisation = OPENAI
        if self._start is not None:
            self.normalisation = clip_normalisation(self._start)
            self.module, self.tokenizer = load_clip_and_tokenizer(self._start)
            vision = self.module.config.vision_config
            if (vision.image_size, vision.patch_size) != (settings.image_size, settings.patch_size):
                raise MasqclipError(
                    f"the CLIP in {start} reads {vision.image_size} pixels in patches of "
                    f"{vision.patch_size}; the settings say {settings.image_size} and "
                    f"{settings.patch_size}"
                )
            return
        self.tokenizer = learn_tokenizer(
            (caption for dataset in self.datasets for caption in dataset.all_captions()),
            merges=settings.merges,
        )
        torch.manual_seed(settings.seed)
        self.module = CLIPModel(clip_config(settings, self.tokenizer)).float()

    @property
    def data(self) -> dict[str, int]:
        """How many pictures and captions there are."""
        captions = sum(len(dataset.all_captions()) for dataset in self.datasets)
        return {"pictures": sum(map(len, self.datasets)), "captions": captions}

    @cached_property
    def inputs(self) -> dict[str, str]:
        """The data, and the CLIP that training goes on from."""
        found = {"--data": combine_digests(dataset.fingerprint() for dataset in self.datasets)}
        return found | ({} if self._start is None else {"--start": digest_model(self._start)})

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Matrices decay; gains, biases and embeddings do not."""
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in self.module.named_parameters():
            decays = parameter.ndim >= 2 and "embedding" not in name
            (matrices if decays else rest).append(parameter)
        rate = self.settings.learning_rate
        return [
            {"params": matrices, "lr": rate, "weight_decay": self.settings.weight_decay},
            {"params": rest, "lr": rate, "weight_decay": 0.0},
        ]

    def batch(self, step: int, share: Share = WHOLE) -> dict[str, Any]:
        """Pictures of one folder, and the captions of the whole batch.

        Returns:
            ``pixels`` [B,3,h,w] in 0..1; ``corner`` [2], the window's first patch; ``tokens``
            [T,L], the captions of the whole batch, each once, and behind them the extra ones;
            ``described`` [N,t] bool, which of the batch's t captions describe which of its N
            pictures; ``share``, which part this is of how many; ``skipped``, why a picture could
            not be read: it is gray, and no caption describes it.
        """
        settings = self.settings
        chance = np.random.default_rng((settings.seed, step))
        sizes = np.array([len(dataset) for dataset in self.datasets], float)
        dataset = self.datasets[int(chance.choice(len(sizes), p=sizes / sizes.sum()))]
        rows = step_indices(len(dataset), settings.batch_size, settings.seed, step)
        captions = [dataset.captions(row) for row in rows]
        texts = list(dict.fromkeys(text for several in captions for text in several))
        described = torch.tensor([[text in several for text in texts] for several in captions])
        extra = [
            text
            for row in chance.choice(len(dataset), min(settings.extra_captions, len(dataset)))
            for text in dataset.captions(row)
        ]
        known = set(texts)
        others = list(dict.fromkeys(text for text in extra if text not in known))
        tokens = self.tokenizer(texts + others, padding=True, truncation=True, return_tensors="pt")[
            "input_ids"
        ]
        places = share.of(settings.batch_size)
        images, skipped = _read_images(dataset, [rows[place] for place in places])
        described[[places[unread] for unread in skipped]] = False
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        if min(pixels.shape[-2:]) >= settings.image_size:
            side = settings.image_size
            pixels = F.interpolate(
                pixels, size=(side, side), mode="bicubic", align_corners=False
            ).clamp(0, 1)
        grid = settings.image_size // settings.patch_size
        rows_left, columns_left = (
            grid - length // settings.patch_size for length in pixels.shape[-2:]
        )
        corner = torch.from_numpy(chance.integers(0, [rows_left + 1, columns_left + 1]))
        return {
            "pixels": pixels,
            "corner": corner,
            "tokens": tokens,
            "described": described,
            "share": (share.index, share.count),
            "skipped": list(skipped.values()),
        }

    def prepare(self, batch: dict[str, Any]) -> tuple[dict[str, Any], Counts]:
        """Note which pictures were skipped."""
        self.skipped.note(batch["skipped"])
        return batch, {}

    @property
    def remarks(self) -> str:
        """Which pictures were skipped."""
        return self.skipped.summary()

    def losses(self, batch: dict[str, Any], totals: Counts) -> dict[str, Tensor]:
        """The symmetric contrastive loss, and how often a picture finds a caption of its own."""
        clip = self.module
        images = F.normalize(
            window_features(
                clip, normalise(batch["pixels"], self.normalisation), batch["corner"]
            ).float(),
            dim=-1,
        )
        pooled = clip.text_model(input_ids=batch["tokens"]).pooler_output
        texts = F.normalize(clip.text_projection(pooled).float(), dim=-1)
        scale = clip.logit_scale.exp().clamp(max=100)
        # A part compares its pictures with all captions, and its captions with all pictures.
        described, (part, parts) = batch["described"].float(), batch["share"]
        pictures, captions = described.shape
        own = F.pad(described[part * len(images) :][: len(images)], (0, len(texts) - captions))
        # Autocast would round the very differences that are learned from.
        with torch.autocast(images.device.type, enabled=False):
            by_image = images @ texts.T * scale
            by_text = texts[:captions][part::parts] @ gather_rows(images).T * scale
        loss = (
            _spread(by_image, own) / pictures
            + _spread(by_text, described.T[part::parts]) / captions
        )
        found = own.gather(1, by_image.argmax(-1, keepdim=True)).sum()
        return {"loss": loss / 2, "found": found / pictures}

    def save(self, folder: Path) -> None:
        """Write the CLIP and its tokenizer in Hugging Face's format."""
        self.module.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        image_size = self.module.config.vision_config.image_size
        write_normalisation(folder, self.normalisation, image_size)


def _read_images(
    dataset: CocoCaptions, rows: Sequence[int]
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Pictures [B,H,W,3]; and for those that cannot be read, which are gray, their place and why.

    Raises:
        MasqclipError: none can be read.
    """
    images: dict[int, NDArray[np.uint8]] = {}
    skipped: dict[int, str] = {}
    for place, row in enumerate(rows):
        try:
            images[place] = dataset[row].image
        except MasqclipError as error:
            skipped[place] = str(error)
    if not images:
        raise MasqclipError(f"not one picture of a batch can be read; {skipped[0]}")
    gray = np.full_like(next(iter(images.values())), 127)
    return np.stack([images.get(place, gray) for place in range(len(rows))]), skipped


def _spread(logits: Tensor, positives: Tensor) -> Tensor:
    """Cross-entropy with a row's positives, in equal shares; the sum over rows that have any."""
    target = positives / positives.sum(-1, keepdim=True).clamp(min=1)
    return F.cross_entropy(logits, target, reduction="sum")


def normalise(pixels: Tensor, scale: ClipNormalisation = OPENAI) -> Tensor:
    """Pixels in 0..1 to a CLIP's own scale."""
    mean = pixels.new_tensor(scale["clip_mean"]).view(3, 1, 1)
    std = pixels.new_tensor(scale["clip_std"]).view(3, 1, 1)
    return (pixels - mean) / std


def window_features(clip: CLIPModel, pixel_values: Tensor, corner: Tensor) -> Tensor:
    """Image features [B,D] of pictures that are windows of CLIP's input.

    Args:
        clip: the model.
        pixel_values: [B,3,h,w], normalised, sides multiples of the patch size and at most the
            model's image size. At the full size this is CLIP's own forward pass.
        corner: [2] row and column, in patches, of the window's first patch.
    """
    vision = clip.vision_model
    embeddings = vision.embeddings
    patches = embeddings.patch_embedding(pixel_values)
    rows, columns = patches.shape[-2:]
    side = embeddings.image_size // embeddings.patch_size
    positions = embeddings.position_embedding.weight
    grid = positions[1:].view(side, side, -1)
    y, x = (int(value) for value in corner)
    window = grid[y : y + rows, x : x + columns].flatten(0, 1)
    tokens = patches.flatten(2).transpose(1, 2) + window
    first = (embeddings.class_embedding + positions[0]).expand(len(tokens), 1, -1)
    hidden = vision.pre_layrnorm(torch.cat([first.to(tokens.dtype), tokens], dim=1))
    hidden = vision.encoder(inputs_embeds=hidden).last_hidden_state
    return clip.visual_projection(vision.post_layernorm(hidden[:, 0]))


def clip_config(settings: PretrainSettings, tokenizer: CLIPTokenizer) -> CLIPConfig:
    """The configuration of the CLIP to train."""
    return CLIPConfig(
        vision_config={
            "hidden_size": settings.vision_width,
            "intermediate_size": 4 * settings.vision_width,
            "num_hidden_layers": settings.vision_layers,
            "num_attention_heads": settings.vision_heads,
            "image_size": settings.image_size,
            "patch_size": settings.patch_size,
            "hidden_act": "gelu",
            "projection_dim": settings.embedding_size,
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": settings.text_width,
            "intermediate_size": 4 * settings.text_width,
            "num_hidden_layers": settings.text_layers,
            "num_attention_heads": settings.text_heads,
            "max_position_embeddings": 77,
            "hidden_act": "gelu",
            "projection_dim": settings.embedding_size,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        projection_dim=settings.embedding_size,
    )


def learn_tokenizer(captions: Iterable[str], *, merges: int) -> CLIPTokenizer:
    """Learn a byte-level BPE in CLIP's format: any text has tokens, frequent words have one each.

    Args:
        captions: the text to learn from.
        merges: most merges to learn.
    """
    words = Counter(caption for caption in captions)
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=3 * len(alphabet) + merges,
        end_of_word_suffix="</w>",
        # All units that merging begins with, numbered by us: ties are broken by number, and the
        # learner's own numbers differ from one run to the next.
        special_tokens=[*alphabet, *(letter + "</w>" for letter in alphabet)],
        min_frequency=2,
        show_progress=False,
    )
    learner.train_from_iterator(sorted(words), trainer)
    learned = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]][:merges]
    units = [*alphabet, *(letter + "</w>" for letter in alphabet), *(a + b for a, b in learned)]
    units += [_START, _END]
    vocabulary = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=learned,
        bos_token=_START,
        eos_token=_END,
        pad_token=_END,
        unk_token=_END,
        model_max_length=77,
    )
