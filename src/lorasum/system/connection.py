"""Why an HTTP client cannot reach a server, where the surroundings are to blame: certificates and proxies."""

from lorasum.system.files import first_line


def connection_hint(error: BaseException, otherwise: str) -> str:
    """What to do about a server that cannot be reached.

    Args:
        error: what the client raised, when it was made or asked.
        otherwise: the hint where neither certificates nor a proxy are to blame.
    """
    said = f"{type(error).__name__} {first_line(error)}".lower()
    if "certificate" in said or isinstance(error, FileNotFoundError):
        return "set SSL_CERT_FILE to a file with the certificates to trust; a company's proxy has one of its own"
    if "socks" in said:
        return "pip install 'httpx[socks]', or unset ALL_PROXY and HTTPS_PROXY"
    if "proxy" in said or isinstance(error, ValueError) or "invalidurl" in said:
        return "check HTTPS_PROXY, ALL_PROXY and NO_PROXY"
    return otherwise
