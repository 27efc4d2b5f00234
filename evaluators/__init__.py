"""Evaluators: each scores responses to problems, as a torchmetrics Metric that reduces over ranks.

`update(problems, responses)`, then `compute() -> dict[str, float]`. An evaluator gets its verifier as an object and imports
none.

    accuracy    how many responses are right, and how many appeal to a reference that nobody gave

Benchmarks, by the rules of their own code or of VLMEvalKit (each a rlsd_lightning.scoring.Benchmark):

    mmmu        MMMU: multiple choice and open questions of 30 subjects
    mathvista   MathVista: choices, integers, decimals and lists read off pictures
    mathvision  MATH-Vision: options and formulas of mathematics contests
    wemath      We-Math: four dimensions of whole problems and their steps
    zerobench   ZeroBench: pass@k of hard questions, and their subquestions

Shared by them: vlmevalkit, how VLMEvalKit reads an option off a response; <benchmark>_*.py, a benchmark's rules.
"""
