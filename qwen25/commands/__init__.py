"""Command lines: one module a phase, on top of all rooms. ``main`` is the ``qwen25`` command, and starts them."""
