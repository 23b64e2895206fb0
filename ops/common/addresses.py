"""Addresses of files on other machines, as text: `s3://bucket/name`, `file:///directory/name`. Nothing here opens one."""
import re
from typing import Optional

_SECRET_KEYS = r"[^&=]*(?:signature|secret|token|password|credential|api_?key|access_?key)[^&=]*|sig"


def is_address(text: object) -> bool:
    """Whether text is an address (`protocol://...`) and not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", str(text)) is not None


def masked(text: str) -> str:
    """The text with `***` in place of every `user:password` and signature of an address in it."""
    text = re.sub(r"(://)[^/\s@]*@", r"\1***@", text)
    return re.sub(rf"([?&](?:{_SECRET_KEYS})=)[^&\s]*", r"\1***", text, flags=re.IGNORECASE)


def without_secret(address: str) -> Optional[str]:
    """The masked address if it holds a password or a signature; None if it holds neither."""
    hidden = masked(address)
    return hidden if hidden != address else None
