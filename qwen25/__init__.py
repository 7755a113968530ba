"""Teacher LLM -> static embedding model. The rooms of this package, and where a change goes: docs/ARCHITECTURE.md."""

__version__ = "0.1.0"
