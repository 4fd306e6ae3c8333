"""Many instances in one program."""
