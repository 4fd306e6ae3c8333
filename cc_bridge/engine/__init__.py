"""What cc-bridge asks of Docker. ``client.py`` is the one border where Docker's errors become ours."""
