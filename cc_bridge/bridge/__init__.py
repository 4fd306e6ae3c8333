"""One conversation with Claude Code over whatever way to its agent there is."""
