"""Endpoint policies, as far as they are compared: by digest."""

from __future__ import annotations

import hashlib
import json


def digest(document: str | None) -> str:
    """Return the digest of a policy document, whatever its spaces and the order of its keys.

    Returns:
        SHA-256 in hexadecimal; of the text itself when it is no JSON; empty when there is no document.
    """
    if not document:
        return ""
    try:
        canonical = json.dumps(json.loads(document), sort_keys=True, separators=(",", ":"))
    except ValueError:
        canonical = document
    return hashlib.sha256(canonical.encode()).hexdigest()
