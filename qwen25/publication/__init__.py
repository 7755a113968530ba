"""Results -> the folder that is published; its checks; its upload."""
