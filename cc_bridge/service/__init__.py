"""A fleet over HTTP: identities, a store that survives, and a page."""
