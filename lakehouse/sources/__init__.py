"""Reading what exchanges publish: transport, listing, paging, budgets, and the cells that are made of it. No
exchange's name is known here: what one publishes and how it answers is stated in `exchanges`.
"""
