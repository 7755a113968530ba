"""Results -> tables, figures, Markdown and HTML."""
