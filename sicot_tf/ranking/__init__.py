"""The order of search results: similarity first, then quality.

clicks, product features -> examples -> training -> Ranker
"""
