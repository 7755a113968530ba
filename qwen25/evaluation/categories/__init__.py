"""The six categories, one file each: its texts, the checks of its items, its score and its uses."""
