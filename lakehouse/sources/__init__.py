"""Reading what exchanges publish and answer: the machinery that is the same for every exchange.

Belongs here: archives (`files`), REST APIs (`rest`), and finding out about markets.
Does not: an exchange's name, or how one writes what it publishes (`exchanges`); what rows mean (`datasets`).
"""
