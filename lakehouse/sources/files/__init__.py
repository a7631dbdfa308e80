"""Archives: listing and fetching files, verifying and parsing them, and the bronze cells made from them.

Belongs here: transport, listings, zips and CHECKSUMs, receipts, what a file that fails leads to.
Does not: keys and columns of one exchange (`exchanges`), where landing lies (`storage`), REST (`rest`).
"""
