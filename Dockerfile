# One image for every role: a node, the bootstrap service and the households differ only in their command.
# It builds with BuildKit and with the classic builder alike, so it uses neither `RUN --mount` nor a syntax line.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder

# pip's own settings, for builds behind a company mirror or proxy; an empty one counts as not given.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

# Certificate authorities put into scripts/containers/ca/ are trusted by pip besides the system's own. They stay in this stage.
COPY scripts/containers/ca/ /tmp/ca/
RUN set -e; cat /etc/ssl/certs/ca-certificates.crt > /tmp/ca-bundle.pem; \
    for authority in /tmp/ca/*.pem /tmp/ca/*.crt; do [ ! -f "$authority" ] || cat "$authority" >> /tmp/ca-bundle.pem; done
ENV PIP_CERT=/tmp/ca-bundle.pem

# The dependencies come first: they change less often than the source, and this layer is the slow one.
WORKDIR /build
COPY requirements.lock ./
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --require-hashes --only-binary=:all: -r requirements.lock

# The lock holds the build back end too, so nothing unpinned is fetched here.
COPY pyproject.toml LICENSE ./
COPY consensus/ consensus/
COPY contracts/ contracts/
COPY network/ network/
COPY node/ node/
RUN /opt/venv/bin/pip install --no-deps --no-index --no-build-isolation .


FROM ${PYTHON_IMAGE}

# A fixed number, so that the files of a volume keep their owner from one image to the next.
RUN groupadd --system --gid 10001 cgpbft \
    && useradd --system --uid 10001 --gid cgpbft --no-create-home --home-dir /var/lib/cgpbft --shell /usr/sbin/nologin cgpbft \
    && install -d -m 0700 -o cgpbft -g cgpbft /var/lib/cgpbft
COPY --from=builder /opt/venv /opt/venv

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    CGPBFT_HOME=/var/lib/cgpbft \
    CGPBFT_HEALTH_URL=http://127.0.0.1:26657/readyz

USER 10001:10001
WORKDIR /var/lib/cgpbft
VOLUME /var/lib/cgpbft
# 26650 the bootstrap service, 26656 peers, 26657 the HTTP API
EXPOSE 26650 26656 26657
STOPSIGNAL SIGTERM

# The base image has no curl. A proxy named in the environment is not for asking oneself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(os.environ['CGPBFT_HEALTH_URL'], timeout=4)"]

ENTRYPOINT ["cgpbft"]
CMD ["--help"]
