"""Where Claude Code runs: each kind joins a way to reach the agent with the same conversation."""
