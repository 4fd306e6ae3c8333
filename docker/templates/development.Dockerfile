# For everyday work: git, curl, vim, jq, ripgrep and tmux.
#
#   cc-bridge up NAME            builds and uses it where it stands in the workspace as Dockerfile
#   docker build --build-arg BASE_IMAGE=... .
#
# Claude Code is proprietary: this file installs it.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS claude
ARG CLAUDE_RELEASE=0.2.186
RUN if ! python3 -m pip --version >/dev/null 2>&1; then \
        apt-get update && apt-get install -y --no-install-recommends python3-pip; \
    fi
RUN python3 -m pip download --no-cache-dir --no-deps --dest /tmp/wheel "claude-agent-sdk==${CLAUDE_RELEASE}" \
    && python3 -m zipfile -e /tmp/wheel/*.whl /tmp/wheel \
    && install -m 0755 /tmp/wheel/claude_agent_sdk/_bundled/claude /usr/local/bin/claude \
    && rm -rf /tmp/wheel

FROM ${BASE_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl git jq ripgrep tmux vim \
    && rm -rf /var/lib/apt/lists/*
RUN id -u claude >/dev/null 2>&1 || useradd --uid 1000 --create-home --shell /bin/bash claude
COPY --from=claude /usr/local/bin/claude /usr/local/bin/claude
ENV DISABLE_AUTOUPDATER=1
USER claude
WORKDIR /workspace
