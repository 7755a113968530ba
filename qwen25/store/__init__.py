"""Models on disk: static models, hub downloads, packaged models, what a model folder may hold."""
