"""The tests of the fault catalogue.

Classes 1 to 12 and 78 are in `connection`, 13 to 23 and 53 to 60 in `wire`, 24 to 30 and 77 in `calls`, 31 to 39 in
`lifecycle`, 61 to 69 in `history`, and 80 in `hostile`.
"""
