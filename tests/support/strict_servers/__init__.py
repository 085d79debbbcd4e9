"""The conversations that real servers refuse: one module for each wire format, and a server that enforces the rules.

A check is a function that takes a request's body and returns its refusals. Each refusal names its source: a page of the
provider's documentation, an SDK, an issue with the server's words, or the id of a recorded exchange. A rule without a
source does not belong here, because the matrix would then require more than real servers do.
"""
