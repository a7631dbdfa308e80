"""REST APIs: clients and what they may spend, pages, the clock, and what is still to be asked.

Belongs here: one client for each API, tries and bans, pages of rows, bounds of an answer, questions.
Does not: addresses, prices and codes of one exchange (`exchanges`), archives (`files`).
"""
