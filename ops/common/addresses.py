"""Addresses of files on other machines, as text: `s3://bucket/name`, `file:///directory/name`. Nothing here opens one."""
import re
from typing import Optional

# Names of parameters. Those that only end in `key` are `key`, `api_key`, `AccessKey`, but not `keyframes`.
_SECRET_NAMES = (r"[^?&;#=]*(?:signature|secret|token|passw|pwd|credential|auth|access_?key|api_?key)[^?&;#=]*"
                 r"|[^?&;#=]*key|sas|sig")
_PORT_OR_CHAIN = r"[0-9]+(?:/|$)|:[A-Za-z][A-Za-z0-9+.-]+://"  # host:80/..., zip://a.zip::s3://...


def is_address(text: object) -> bool:
    """Whether text is an address (`protocol://...`) and not a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", str(text)) is not None


def masked(text: str) -> str:
    """The text with `***` in place of every `user:password` and secret parameter of an address in it."""
    return _hide(text, r"\S")


def without_secret(address: str) -> Optional[str]:
    """The masked address if it holds a password or a signature; None if it holds neither. A user's name is no secret."""
    hidden = _hide(address, ".")
    return hidden if hidden != address else None


def _hide(text: str, character: str) -> str:
    """character: what a password may consist of. It may contain `/` and `@`: it goes up to the last `@`."""
    text = re.sub(rf"(://)[^\s/:@\[]*:(?!{_PORT_OR_CHAIN}){character}*@", r"\1***@", text, flags=re.DOTALL)
    return re.sub(rf"([?&;#](?:{_SECRET_NAMES})=)[^&;#\s]*", r"\1***", text, flags=re.IGNORECASE)
