# The service with the shipped model. On the CPU as it is; for CUDA give the index that has such a
# torch:  docker build --build-arg TORCH_INDEX=ADDRESS -t masqclip:cuda .

FROM python:3.11-slim AS build
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/masqclip
# torch first: it changes seldom, and is most of the image.
RUN /opt/masqclip/bin/pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH"
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src src
RUN /opt/masqclip/bin/pip install ".[serve]"

FROM python:3.11-slim
COPY --from=build /opt/masqclip /opt/masqclip
RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp masqclip
USER 10001
ENV PATH=/opt/masqclip/bin:$PATH PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=90s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# SIGTERM ends it in order; docker's ten seconds of patience are enough.
STOPSIGNAL SIGTERM
ENTRYPOINT ["masqclip", "serve", "--host", "0.0.0.0", "--port", "8000"]
