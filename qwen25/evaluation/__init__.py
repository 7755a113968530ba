"""Models judged: items, categories, statistics, encoders, health, verdict, comparison."""
