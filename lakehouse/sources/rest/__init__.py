"""REST APIs: one client for each, what it may spend, pages of candles, and what is still to be asked."""
