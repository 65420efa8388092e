"""What people do in the local organisation that is no API call of AWS, for those who only have its URL.

`POST /moto-api/by-hand/<what>` with a form; the answer is plain text.
"""

from __future__ import annotations

from typing import Any

from moto.moto_api._internal import urls

from . import hooks


def _serve(request: Any, full_url: str, _: Any) -> tuple[int, dict[str, str], str]:
    headers = {"Content-Type": "text/plain"}
    if request.method != "POST":
        return 405, headers, "use POST\n"
    try:
        form = {name: request.form.getlist(name) for name in request.form}
        return 200, headers, hooks.installed.by_hand(full_url.rsplit("/", 1)[-1], form) + "\n"
    except (LookupError, ValueError) as error:
        return 400, headers, f"{error}\n"


def install() -> None:
    """Let moto's own API take this in (once: the caller sees to that, before the server's first request)."""
    urls.url_paths["{0}/moto-api/by-hand/(?P<what>[a-z-]+)$"] = _serve
