"""The page: conversations for a person with a browser."""
