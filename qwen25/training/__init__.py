"""Learn a static table's map and token weights: from pairs of texts, and from the teacher's sentence vectors."""
