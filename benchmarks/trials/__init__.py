"""The trials of `torture.py`, a file each, and what they stand on."""
