"""From where somebody calls, as far as guessing is counted: an IPv4 address, or the /64 an IPv6 caller chooses from."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from mpesa_mcp.audit import circumstances


def calling_network() -> str | None:
    """The network of the request being answered; None where there is no request (a command of this machine)."""
    return None if (told := circumstances().address) is None else network_of(told)


def network_of(address: str) -> str:
    """One text for all addresses that one caller can take at will."""
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Network((int(parsed), 64), strict=False))
    return str(parsed)
