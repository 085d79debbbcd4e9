"""The fault catalogue as tests: classes 1 to 12 in `connection`, 13 to 23 in `wire`, 24 to 30 in `calls`, 31 to 39 in
`lifecycle`."""
