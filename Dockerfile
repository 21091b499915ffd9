# recdistill in a container: one stage makes /app/.venv from a lock, the other runs it as a numeric user.
#   docker build -t recdistill .                          on a CPU
#   docker build -t recdistill --build-arg LOCK=cuda .    with CUDA libraries (the lock was not yet installed anywhere)
# Run it with a folder for its files, writable by uid 10001: docker run -v "$PWD/runs:/app/runs" recdistill run configs/demo.yaml
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG LOCK=cpu
# For LOCK=cpu, name an index with CPU wheels of torch here (--extra-index-url ...): a plain registry has the CUDA build,
# which does not import without CUDA's libraries. `recdistill doctor` at the end of this stage says so.
ARG PIP_ARGS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
# torch and fbgemm are linked against libgomp, which slim images lack.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY requirements/${LOCK}.txt requirements/
# hadolint ignore=SC2086
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv .venv \
    && .venv/bin/python -m pip install --no-deps ${PIP_ARGS} -r requirements/${LOCK}.txt
COPY pyproject.toml ./
COPY recdistill recdistill
COPY flows flows
RUN .venv/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation . \
    && .venv/bin/recdistill doctor --quick

# What compose.yaml and Prefect's Docker and Kubernetes workers run: a command of theirs, so no entrypoint.
FROM ${BASE} AS worker
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --user-group recdistill
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY --chown=10001:10001 configs configs
COPY --chown=10001:10001 flows flows
COPY --chown=10001:10001 prefect.yaml ./
RUN install --directory --owner=10001 --group=10001 runs artifacts
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=180 \
    MLFLOW_DISABLE_TELEMETRY=true
USER 10001:10001
HEALTHCHECK --interval=5m --timeout=60s --start-period=60s CMD ["recdistill", "doctor", "--quick"]

FROM worker
ENTRYPOINT ["recdistill"]
CMD ["--help"]
