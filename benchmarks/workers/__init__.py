"""What runs in a process of its own: one measured cell, one file per contestant.

The peers' workers run in the peers' environment, where tunefork is not installed.
"""
