"""`masqclip serve`: the model behind HTTP, with a page for people and routes for tools."""

from __future__ import annotations

import os
import socket
import sys
from typing import Annotated

from cyclopts import App, Parameter

from masqclip.cli.console import err_console
from masqclip.cli.models import check_size_option, fetch_models, load_segmenter
from masqclip.errors import MasqclipError, require

app = App(
    name="serve",
    help_epilogue="""\
**Examples**

```text
# the page and the API on this machine: http://127.0.0.1:8000
masqclip serve

# for others in the network, by a name, who need a token
MASQCLIP_TOKEN=secret masqclip serve --host 0.0.0.0 \\
    --allowed-host photos.example.org

# ask it
curl -F image=@beach.png \\
    -F vocabulary='rocket, stuff: sand' http://127.0.0.1:8000/v1/segment

# as a backend of a Label Studio, whose pictures it may fetch
LABEL_STUDIO_API_KEY=key masqclip serve --port 9090 \\
    --label-studio-url http://localhost:8080
```

X-AnyLabeling's "Remote-Server" and Label Studio's "Model" take the service's address as it is.
Nothing of a user is written to disk, and the log holds sizes and timings only. SIGTERM (or
Ctrl-C) ends it when all requests that it has accepted are answered.""",
)


@app.default
def serve(
    *,
    model: Annotated[str, Parameter(alias="-m", metavar="NAME")] = "masqclip-mini",
    host: str = "127.0.0.1",
    port: int = 8000,
    device: Annotated[str | None, Parameter(metavar="NAME")] = None,
    size: Annotated[str | None, Parameter(metavar="PIXELS")] = None,
    threads: Annotated[int | None, Parameter(metavar="N")] = None,
    token: Annotated[str, Parameter(env_var="MASQCLIP_TOKEN", show_default=False)] = "",
    cors_origin: Annotated[list[str] | None, Parameter(metavar="URL")] = None,
    allowed_host: Annotated[list[str] | None, Parameter(metavar="NAME")] = None,
    max_requests: int = 64,
    max_wait: float = 5.0,
    batch_size: int = 8,
    deadline: float = 30.0,
    max_upload_mb: float = 32.0,
    max_pixels: int = 25_000_000,
    max_connections: int = 512,
    buffer_mb: float = 96.0,
    store_mb: float = 384.0,
    max_vocabularies: int = 1000,
    max_examples: int = 500,
    vocabulary_mb: float = 64.0,
    vocabulary_minutes: float = 120.0,
    label_studio_url: Annotated[str, Parameter(metavar="URL", show_default=False)] = "",
    label_studio_token: Annotated[
        str, Parameter(env_var="LABEL_STUDIO_API_KEY", show_default=False)
    ] = "",
    label_studio_storage: Annotated[list[str] | None, Parameter(metavar="HOST")] = None,
    label_studio_timeout: float = 100.0,
) -> int:
    """Serve a model over HTTP, with a page at / for people.

    Args:
        model: A model of this package, a folder, or a name on the Hugging Face Hub.
        host: The address to listen on; 0.0.0.0 lets others in, who should then need a token.
        port: The port to listen on.
        device: cpu, cuda, cuda:1 or mps; the default is the best there is.
        size: The size at which pictures are seen, in place of the model's own: SHORTEST, the
            shorter side in pixels, or SHORTEST:LONGEST.
        threads: Of the model on the CPU; half the cores by default, as reading pictures and naming
            masks go on beside it.
        token: What clients must send (Authorization: Bearer TOKEN). Better set as MASQCLIP_TOKEN,
            because a command line can be seen by others.
        cors_origin: A page of another origin that browsers may let in; repeat it for several.
        allowed_host: A name under which the service is asked, "photos.example.org"; repeat it for
            several, * = any. Addresses in figures, localhost and --host are known anyway.
        max_requests: Requests waiting or worked on; the next one is told to try again (429).
        max_wait: Seconds of work that may be waiting, by the pace of late; likewise 429. What has
            been accepted is answered before the service ends, which should not take long.
        batch_size: Pictures that go through the model together at most; 1 = each alone.
        deadline: Seconds that a request may take (504).
        max_upload_mb: The largest request body, in megabytes (413).
        max_pixels: The largest picture.
        max_connections: Connections at a time; one more closes the one that has been silent the
            longest.
        buffer_mb: Memory for bodies of requests that are on their way, in megabytes.
        store_mb: Memory for encoded pictures; the least recently used leave first.
        max_vocabularies: Vocabularies with examples that are kept; likewise.
        max_examples: Examples of one vocabulary (422).
        vocabulary_mb: Memory for vocabularies, in megabytes; the least recently used leave first.
        vocabulary_minutes: How long a vocabulary is kept that nobody asks for.
        label_studio_url: The Label Studio whose pictures may be fetched.
        label_studio_token: What is sent to it, a legacy or a personal access token; better set as
            LABEL_STUDIO_API_KEY.
        label_studio_storage: A host that its pictures may lie on, "minio:9000"; repeat it for
            several. The stores of Amazon, Google and Azure are known anyway.
        label_studio_timeout: Seconds that it waits for an answer (its ML_TIMEOUT_PREDICT); tasks
            that are not done in time are left for its next request.
    """
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
        require(module, extra="serve", purpose="masqclip serve")
    if threads is not None and threads < 1:
        raise MasqclipError(f"--threads {threads}: give 1 or more")
    size = check_size_option(size)
    from masqclip.serve.settings import ServeSettings

    settings = ServeSettings(
        max_requests=max_requests,
        max_wait=max_wait,
        batch_size=batch_size,
        deadline=deadline,
        max_upload_bytes=round(max_upload_mb * 1e6),
        max_pixels=max_pixels,
        store_bytes=round(store_mb * 1e6),
        max_vocabularies=max_vocabularies,
        max_examples=max_examples,
        vocabulary_bytes=round(vocabulary_mb * 1e6),
        vocabulary_seconds=vocabulary_minutes * 60,
        token=token,
        max_connections=max_connections,
        buffer_bytes=round(buffer_mb * 1e6),
        cors_origins=tuple(cors_origin or ()),
        allowed_hosts=(host, *(allowed_host or ())),
        label_studio_url=label_studio_url,
        label_studio_token=label_studio_token,
        label_studio_storage=tuple(label_studio_storage or ()),
        label_studio_timeout=label_studio_timeout,
    )
    _check_port(host, port)
    fetch_models(model)

    import torch

    from masqclip.devices import choose_device
    from masqclip.serve.app import create_app
    from masqclip.serve.run import run_app

    torch.set_num_threads(threads or max(1, (os.cpu_count() or 2) // 2))
    where = choose_device(device)
    segmenter = load_segmenter(model, device=device, dtype=None, size=size)
    err_console().print(
        f"masqclip: {model} on {where}; {_open(host, port)}", markup=False, soft_wrap=True
    )
    app = create_app(segmenter, settings)
    run_app(app, host=host, port=port, max_connections=settings.max_connections)
    return 0


def _open(host: str, port: int) -> str:
    """What people are to open; "all addresses" is none of them."""
    inside = f"[{host}]" if ":" in host else host
    if host not in ("0.0.0.0", "::", ""):
        return f"open http://{inside}:{port}/"
    own = "[::1]" if host == "::" else "127.0.0.1"
    return f"open http://{own}:{port}/ here, or this machine's name or address elsewhere"


def _check_port(host: str, port: int) -> None:
    """Find out before the model is loaded that nothing can listen there."""
    if not 0 < port < 65536:
        raise MasqclipError(f"--port {port}: give a number from 1 to 65535")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            if sys.platform != "win32":  # there it would share a port that is in use
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:  # UnicodeError: what is no name of any host
        reason = getattr(error, "strerror", None) or error
        raise MasqclipError(
            f"cannot listen on {host}:{port} ({reason}): give another --host or --port"
        ) from error
