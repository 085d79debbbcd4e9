"""The regions of AWS, to suggest the one that was meant. Pure."""

from __future__ import annotations

import difflib

_NAMES = """
    af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2 ap-southeast-1
    ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6 ap-southeast-7 ca-central-1 ca-west-1
    cn-north-1 cn-northwest-1 eu-central-1 eu-central-2 eu-north-1 eu-south-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3
    il-central-1 me-central-1 me-south-1 mx-central-1 sa-east-1 us-east-1 us-east-2 us-gov-east-1 us-gov-west-1
    us-west-1 us-west-2
"""
_REGIONS = _NAMES.split()
"""The commercial regions, GovCloud and China. It need not be complete: it is only for suggestions."""


def did_you_mean_region(name: str) -> str:
    """Return ` (did you mean eu-central-1?)`, or an empty string if it is a region, or none is near."""
    near = [] if name in _REGIONS else difflib.get_close_matches(name.lower(), _REGIONS, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
