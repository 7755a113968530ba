"""The six categories, one file each."""
