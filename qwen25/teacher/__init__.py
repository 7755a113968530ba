"""A name, folder or file -> a teacher: its tokenizer, weights and configuration."""
