"""Verifiers: each judges one response to one problem (rlsd_lightning.interfaces.Verifier).

One idea per file, constructor keywords only, `verify(problem, response) -> Verdict`. Model text is data: no verifier
raises on it, evaluates it, or takes long over it.

    math             equal as mathematics (Math-Verify)
    numeric          one number, with a tolerance
    multiple_choice  one option of several
    boolean          yes or no
    text             equal words: exactly, by letters and digits, or as question answering counts them
    ocr              text read off a picture, by its likeness
    grounding        boxes and stretches of time, by their overlap
    regex            the problem's pattern matches
    json_schema      JSON that a schema allows
    sql              a query returns what the gold query returns
    http             what a service of the user's own says
    answer_format    thought and answer stand between their tags
    weighted_sum     several of these, each with a weight
    by_kind          sends each problem to the verifier of its kind

Shared by them:

    decoration   what stands round an answer and is not part of it
    numerals     numbers as people write them
    rouge        words, pairs and runs of words that two texts share
    stemming     English words without their endings
    edits        how many edits lie between two texts
    expressions  the formula that a mathematical answer comes down to
    patterns     regular expressions under a time limit
    strict_json  JSON as its standard has it
    sql_rows     whether two results of queries are the same
    sql_text     what the words of a query tell
    sql_runner   queries in a process of their own; sql_worker is that process, sql_sqlite, sql_duckdb, sql_postgresql its dialects
    verdicts     how a verdict is worded

Where an answer stands in a response, and how long reading it may take: rlsd_lightning.answers.
"""
