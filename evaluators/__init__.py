"""Evaluators: each scores responses to problems, as a torchmetrics Metric that reduces over ranks.

`update(problems, responses)`, then `compute() -> dict[str, float]`. An evaluator gets its verifier as an object and imports
none.

    accuracy   how many responses are right, and how many appeal to a reference that nobody gave
"""
