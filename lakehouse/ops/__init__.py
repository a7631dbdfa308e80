"""What operators are told: findings over a table's ledger, quality, damage, and the page of all tables.

Belongs here: what a check says, what a report counts, what was searched and tried before.
Does not: how it is printed (`cli`), when it runs (`defs`), what is due (`pipeline`).
"""
