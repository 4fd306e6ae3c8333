# Claude Code and nothing else: no Python, so that no agent can run.
ARG CLAUDE_IMAGE
ARG BARE_IMAGE
FROM ${CLAUDE_IMAGE} AS claude
FROM ${BARE_IMAGE}
COPY --from=claude /usr/local/bin/claude /usr/local/bin/claude
