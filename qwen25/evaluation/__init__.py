"""Models judged: items, categories, statistics, encoders, health, verdict, comparison.

From Python, a model's whole result and a comparison are one call each:

    from qwen25.evaluation.comparison import compare
    from qwen25.evaluation.evaluate import evaluate
    from qwen25.evaluation.items import load_categories
    from qwen25.evaluation.loading import load_encoder

    items = load_categories()
    result = evaluate(load_encoder("models/mine"), items, seed=42)
    print(result.overall, result.interval, {name: score.score for name, score in result.categories.items()})
    beside = compare(("MINE", "models/mine"), {"OTHER": "models/other"}, items, seed=42)
"""
