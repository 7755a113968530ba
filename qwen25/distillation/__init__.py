"""Token states -> a static model: settings, vocabulary, frequencies, recipe, vectors, and the pipeline."""
