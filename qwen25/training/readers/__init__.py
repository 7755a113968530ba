"""Readers of pairs that lie inside wheels: one file a kind, each from an open wheel to rows."""
