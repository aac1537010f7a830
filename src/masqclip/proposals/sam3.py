"""SAM 3 (Carion et al., 2025) as a proposer: every instance of what a few words name.

SAM 3 takes a noun phrase and answers with masks of all that it fits. Without words of the user's it
is asked for things in general; what is asked instead (`words.asking`), such as the names of a
vocabulary, finds what general words do not. The picture is encoded once for all words; the score of
a mask is the probability that the phrase is in the picture at all times that of the mask.

The settings are attributes of the configuration: ``prompts`` (token ids of OpenAI's CLIP, which SAM
3 reads, each with its beginning and end), ``max_overlap`` (IoU of two masks), ``num_proposals``.

Shapes: `B` pictures, `Q` proposals, `s` = 288 for the published square of 1008 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel, Sam3Config, Sam3Model

from masqclip.proposals.base import Proposals
from masqclip.proposals.overlaps import best, scores_to_logits
from masqclip.proposals.progress import tell
from masqclip.proposals.segmenters import SegmenterProposer
from masqclip.proposals.square import from_square, picture_side, to_square
from masqclip.proposals.words import Prompt, asked
from masqclip.weights.folders import FolderPart

# "object" and "thing", between the tokens of a text's beginning and end.
GENERAL = ((49406, 14115, 49407), (49406, 946, 49407))
_SETTINGS = {
    "prompts": [list(prompt) for prompt in GENERAL],
    "max_overlap": 0.7,
    "num_proposals": 100,
}
_CANDIDATES = 4  # for every proposal: the best of them are compared with one another
_GREY = (0.0, 0.0, 0.0)  # never seen: the picture is stretched over the square
# A compiled model is not to remember what was asked first.
_asked: Callable[[], Sequence[Prompt] | None] = torch.compiler.disable(asked)


class Sam3Proposer(SegmenterProposer):
    """SAM 3's masks of what it is asked for; of the published model the image's half is read."""

    config_class = Sam3Config
    segmenter_class = Sam3Model
    own_settings = tuple(_SETTINGS)
    sees_square = True
    within: ClassVar[Mapping[str, FolderPart]] = {
        "sam3_video": FolderPart("detector_config", "detector_model.")
    }

    def adopt(self, segmenter: PreTrainedModel) -> None:
        """See `SegmenterProposer`; settings that the configuration lacks are our own."""
        for name, value in _SETTINGS.items():
            if not hasattr(segmenter.config, name):
                setattr(segmenter.config, name, value)
        super().adopt(segmenter)

    @property
    def takes_words(self) -> bool:
        """See `ModelProposer`."""
        return True

    @property
    def prompts(self) -> list[Prompt]:
        """What is looked for, as many tokens of each as the text encoder reads."""
        most = int(self.config.text_config.max_position_embeddings)
        given = _asked() or self.config.prompts
        return [
            prompt if len(prompt) <= most else [*prompt[: most - 1], prompt[-1]] for prompt in given
        ]

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        """Propose masks; see `Proposer`. Places that no mask takes score as "no object"."""
        side = picture_side(self.config.vision_config.backbone_config.image_size)
        squares = to_square(pixel_values, pixel_mask, side, _GREY, stretch=True)
        found, scores = self._everything(squares)
        count = int(self.config.num_proposals)
        masks, logits = [], []
        for candidates, predicted, inside in zip(found, scores, pixel_mask, strict=True):
            kept, objects = best(
                candidates,
                predicted,
                scores_to_logits(predicted).to(candidates.dtype),
                max_overlap=self.config.max_overlap,
                count=count,
            )
            masks.append(from_square(kept, inside, side, stretch=True))
            logits.append(objects)
        return Proposals(torch.stack(masks), torch.stack(logits))

    def _everything(self, squares: Tensor) -> tuple[Tensor, Tensor]:
        """The best candidates of squares [B, 3, S, S]: masks [B, N, s, s] and scores [B, N]."""
        seen = self.segmenter.get_vision_features(squares)
        prompts = self.prompts
        most = _CANDIDATES * int(self.config.num_proposals)
        masks: Tensor | None = None
        scores: Tensor | None = None
        for done, prompt in enumerate(prompts, start=1):
            ids = torch.tensor([prompt], device=squares.device).expand(len(squares), -1)
            told = self.segmenter(
                vision_embeds=seen, input_ids=ids, attention_mask=torch.ones_like(ids)
            )
            present = told.presence_logits.sigmoid().view(-1, 1)
            score, mask = told.pred_logits.sigmoid() * present, told.pred_masks
            if masks is not None and scores is not None:
                mask, score = torch.cat([masks, mask], dim=1), torch.cat([scores, score], dim=1)
            # In the order of their words, so that few pictures' memory holds many words.
            chosen = score.topk(min(most, score.shape[1])).indices.sort(dim=1).values
            masks = mask.take_along_dim(chosen[..., None, None], dim=1)
            scores = score.take_along_dim(chosen, dim=1)
            tell(done, len(prompts))
        assert masks is not None
        assert scores is not None
        return masks, scores
