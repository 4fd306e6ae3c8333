"""cc-bridge beside what one would take instead, and beside the limit. Nothing here is asserted anywhere."""
