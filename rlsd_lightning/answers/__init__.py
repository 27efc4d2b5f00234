"""Reading answers in the text of a model: what verifiers and evaluators share, so that no response can hang either.

Where the answer stands in a response (extraction, in linear time), how large a formula's numbers may become
(magnitude, before anything computes them), work that may take only so long (deadline), and how
far two texts are apart (edits, exact and fast at any length).
"""
