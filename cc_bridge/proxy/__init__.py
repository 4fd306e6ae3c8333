"""The way out of sealed instances: what they may reach, and where their key is put in."""
