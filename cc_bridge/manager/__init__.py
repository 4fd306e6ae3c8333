"""Containers of projects: made hardened, found again by their labels, limited, watched and cleaned up."""
