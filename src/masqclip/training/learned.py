"""Which numbers of a model tuning changes: the rows of the paper's Table 5, "q" its choice.

What is learned belongs to the mask class tokens alone, so that the picture's tokens stay CLIP's:
own keys and values are read by masks only (`masked_vision.py`). ``clip`` is the exception: there
the vision tower itself learns, and the picture's tokens change; the words stay.
"""

from __future__ import annotations

from torch import nn

from masqclip.clip.masked_vision import MaskQueries
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel


def own_projections(learns: str) -> str:
    """The `MasQClipConfig.own_projections` of a model that learns so (`TuneSettings.learns`)."""
    return "q" if learns == "clip" else learns


def choose_learned(model: MasQClipModel, learns: str) -> nn.Module:
    """Freeze a model but for what is to learn.

    Args:
        model: gets the projections that are to learn, started as CLIP's, where it has none. Its
            queries are kept: tuned ones learn on, or stay so.
        learns: see `TuneSettings`.

    Returns:
        A module of all that learns, with the model's own parameters.

    Raises:
        MasqclipError: the model's masks have own projections that would not learn.
    """
    _add_projections(model, own_projections(learns), learns)
    model.eval().requires_grad_(False)
    queries = model.queries.requires_grad_(True)
    if learns == "clip":
        return _Tower(model)
    if "q" not in learns:
        queries.projections.requires_grad_(False)
        return _KeysOrValues(queries)
    return queries


def _add_projections(model: MasQClipModel, own: str, learns: str) -> None:
    before, tower = model.config.own_projections, model.tower
    if before == own:
        return
    if before != "q":
        raise MasqclipError(
            f"learns is {learns!r}, and the masks of this model have own projections {before!r}: "
            f"go on with learns={before}, or from another model"
        )
    queries = MaskQueries(tower, own)
    queries.start(tower)
    queries.load_state_dict(model.queries.state_dict(), strict=False)
    model.queries = queries.to(model.device)
    model.config.own_projections = own


class _KeysOrValues(nn.Module):
    """Own keys or values and the mask class embedding, without the queries, which do not learn."""

    def __init__(self, queries: MaskQueries) -> None:
        super().__init__()
        for name, projections in (("keys", queries.keys), ("values", queries.values)):
            if projections is not None:
                self.add_module(name, projections)
        # The embedding, in one table with theirs: who replaces it here, as FSDP does, replaces it
        # there.
        self._parameters = queries._parameters


class _Tower(nn.Module):
    """The vision tower up to its embeddings, and the mask class tokens' queries."""

    def __init__(self, model: MasQClipModel) -> None:
        super().__init__()
        tower = model.tower
        self.tower = nn.ModuleList(module.requires_grad_(True) for module in tower.modules)
        self.queries = model.queries
        # Nothing reads the last block's output at the picture's own tokens, so that their queries
        # there would never get a gradient.
        for numbers in tower.blocks[-1].weights("q"):
            if numbers is not None and numbers.is_leaf:
                numbers.requires_grad_(False)
