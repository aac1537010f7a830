"""The HTTP service, its page, two annotation tools' protocols, and a client.

`create_app` (`masqclip.serve.app`) makes the service of a `Segmenter`; ``masqclip serve`` runs it.
Of these only `Client` is meant for other programs, and it needs neither torch nor FastAPI.
"""

from __future__ import annotations

from masqclip.serve.client import Client

__all__ = ["Client"]
