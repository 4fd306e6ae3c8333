"""The command ``cc-bridge``: a module per verb; the heavy imports wait until a verb needs them."""
