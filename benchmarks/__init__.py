"""The measurements behind the documents."""
