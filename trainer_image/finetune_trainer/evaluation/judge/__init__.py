"""A language model as judge of the answers in words: what it is asked, and what its replies come to."""
