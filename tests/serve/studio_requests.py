"""What Label Studio 1.23 posts to its backends; see the tests of its protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from drawn_regions import NAMES
from running import Serving


def label_config(tag: str, names: Sequence[str] = NAMES) -> str:
    labels = "".join(f"<Label value={quoteattr(name)} background='#FFA39E'/>" for name in names)
    return (
        '<View>\n  <Image name="image" value="$picture" zoom="true"/>\n'
        f'  <{tag} name="tag" toName="image">{labels}</{tag}>\n</View>'
    )


def label_studio_request(picture: str, tag: str = "BrushLabels") -> dict[str, Any]:
    """What Label Studio posts to its backends' /predict."""
    task = {
        "id": 7,
        "data": {"picture": picture},
        "meta": {},
        "created_at": "2026-11-20T10:00:00.000000Z",
        "is_labeled": False,
        "project": 3,
        "annotations": [],
        "predictions": [],
    }
    return {
        "tasks": [task],
        "project": "3.1763633000",
        "label_config": label_config(tag),
        "params": {"login": None, "password": None, "context": None},
    }


async def predicted(serving: Serving, body: dict[str, Any], **settings: Any) -> list[Any]:
    """What a service with these settings answers to a request, task by task."""
    async with serving(**settings) as client:
        answer = await client.post("/predict", json=body)
        assert answer.status_code == 200, answer.text
        results: list[Any] = answer.json()["results"]
        return results
