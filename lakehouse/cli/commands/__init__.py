"""The commands: their options, and what each calls.

Belongs here: what can be typed, and its help.
Does not: what is due and how it is made (`pipeline`), what a finding is (`ops`), reading rows (`query`).
"""
