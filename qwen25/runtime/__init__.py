"""Ground floor: errors, exit codes, log, display, files, folders with their lock, provenance."""
