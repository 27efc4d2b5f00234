"""Verifiers: each judges one response to one problem (rlsd_lightning.interfaces.Verifier).

One idea per file, constructor keywords only, `verify(problem, response) -> Verdict`. Model text is data: no verifier
raises on it, evaluates it, or takes long over it.

    math             equal as mathematics (Math-Verify)
    numeric          one number, with a tolerance
    multiple_choice  one option of several
    text             equal words: exactly, by letters and digits, or as question answering counts them
    answer_format    thought and answer stand between their tags
    weighted_sum     several of these, each with a weight
    by_kind          sends each problem to the verifier of its kind

Shared by them:

    decoration   what stands round an answer and is not part of it
    numerals     numbers as people write them
    expressions  the formula that a mathematical answer comes down to
    verdicts     how a verdict is worded

Where an answer stands in a response, and how long reading it may take: rlsd_lightning.answers.
"""
