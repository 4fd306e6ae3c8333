# `cc-bridge serve` as an image; docker/compose.yaml uses it. Context: the repository's root.
#
#   BASE_IMAGE   any Debian-like image with Python 3.11 or newer
#
# Claude Code is not in it: instances have images of their own, which the engine builds on first use.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
RUN if ! python3 -c 'import ensurepip' 2>/dev/null; then \
        apt-get update && apt-get install -y --no-install-recommends python3-venv; \
    fi
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY cc_bridge cc_bridge
COPY agent agent
COPY docker docker
RUN python3 -m venv /opt/cc-bridge \
    && /opt/cc-bridge/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt ".[service,metrics,oidc,otel]"

FROM ${BASE_IMAGE}
COPY --from=build /opt/cc-bridge /opt/cc-bridge
ENV PATH=/opt/cc-bridge/bin:$PATH PYTHONUNBUFFERED=1 CC_BRIDGE_HOME=/var/lib/cc-bridge
EXPOSE 8765
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8765/healthz', timeout=4)"]
ENTRYPOINT ["cc-bridge"]
CMD ["serve", "--host", "0.0.0.0", "--host-name", "localhost"]
