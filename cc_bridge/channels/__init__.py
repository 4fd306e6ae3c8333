"""How frames travel. Nothing in here knows of Claude Code."""
