"""Signs that a policy leans on a reference nobody gave it, as pure functions. callbacks/leakage_probe.py asks them.

phrases      completions that appeal to a reference
information  how much the teacher's next token says of the reference it reads
planted      completions that give a planted wrong answer (data/canaries.py plants it)
style        credit spent on tokens that carry no content
trend        a quantity's slope over the last steps
alarms       which quantities are above their thresholds, and since when
"""
