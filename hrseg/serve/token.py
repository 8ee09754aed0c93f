"""The optional password of a server: one token, sent as `Authorization: Bearer TOKEN`."""

import hmac
import os
from pathlib import Path

from hrseg.errors import ConfigError

VARIABLE = "HRSEG_SERVE_TOKEN"


def read_token(path: str | Path | None = None) -> str | None:
    """Return the token of a file, else of the environment variable HRSEG_SERVE_TOKEN, else None.

    Raises:
        ConfigError: The file cannot be read, or the token is empty or has other signs than plain ones.
    """
    if path is None:
        token, where = os.environ.get(VARIABLE), VARIABLE
    else:
        where = str(path)
        try:
            token = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The token file {path} cannot be read: {getattr(error, 'strerror', None) or error}. Write one, such "
                f"as: openssl rand -hex 32 > {path}"
            ) from error
    if token is None:
        return None
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"The token of {where} is {'not one plain word' if token else 'empty'}. Use letters and digits, such as "
            "those of: openssl rand -hex 32"
        )
    return token


def admits(token: str | None, header: str | None) -> bool:
    """Tell whether an Authorization header opens the door; the time taken does not tell how near it was.

    Example:
        >>> admits("open", "Bearer open"), admits("open", "Bearer ope"), admits("open", None), admits(None, None)
        (True, False, False, True)
    """
    if token is None:
        return True
    scheme, _, given = (header or "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())
    return same and scheme.lower() == "bearer"
