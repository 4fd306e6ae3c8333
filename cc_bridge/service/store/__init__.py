"""What the service keeps: commands, tokens, sessions, webhooks, the audit log and titles."""
