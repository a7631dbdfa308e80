"""Addresses of exchanges: the settings that move them, by the exchange's name."""

from typing import Literal

AddressKind = Literal["archive", "rest"]
"""An exchange's archive (an S3 endpoint), or its REST API."""


def address_setting(exchange: str, kind: AddressKind) -> str:
    """The setting that moves an address of an exchange: `LAKEHOUSE_<EXCHANGE>_ARCHIVE_URL` or
    `…_REST_URL`.
    """
    return f"LAKEHOUSE_{exchange.upper()}_{kind.upper()}_URL"
