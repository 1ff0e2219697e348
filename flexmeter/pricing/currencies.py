"""Currencies: their codes, their symbols, and how many decimals a rounded amount has."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Final

from flexmeter.properties import EXACT, plain

CODES: Final = frozenset({
    "aed", "afn", "all", "amd", "ang", "aoa", "ars", "aud", "awg", "azn", "bam", "bbd", "bdt", "bgn", "bhd", "bif", "bmd",
    "bnd", "bob", "brl", "bsd", "btn", "bwp", "byn", "bzd", "cad", "cdf", "chf", "clf", "clp", "cny", "cop", "crc", "cup",
    "cve", "czk", "djf", "dkk", "dop", "dzd", "egp", "ern", "etb", "eur", "fjd", "fkp", "gbp", "gel", "ghs", "gip", "gmd",
    "gnf", "gtq", "gyd", "hkd", "hnl", "htg", "huf", "idr", "ils", "inr", "iqd", "irr", "isk", "jmd", "jod", "jpy", "kes",
    "kgs", "khr", "kmf", "kpw", "krw", "kwd", "kyd", "kzt", "lak", "lbp", "lkr", "lrd", "lsl", "lyd", "mad", "mdl", "mga",
    "mkd", "mmk", "mnt", "mop", "mru", "mur", "mvr", "mwk", "mxn", "myr", "mzn", "nad", "ngn", "nio", "nok", "npr", "nzd",
    "omr", "pab", "pen", "pgk", "php", "pkr", "pln", "pyg", "qar", "ron", "rsd", "rub", "rwf", "sar", "sbd", "scr", "sdg",
    "sek", "sgd", "shp", "sle", "sos", "srd", "ssp", "stn", "svc", "syp", "szl", "thb", "tjs", "tmt", "tnd", "top", "try",
    "ttd", "twd", "tzs", "uah", "ugx", "usd", "uyu", "uzs", "ved", "ves", "vnd", "vuv", "wst", "xaf", "xcd", "xof", "xpf",
    "yer", "zar", "zmw", "zwg",
})  # fmt: skip
"""Codes of ISO 4217 in lower case, as they travel."""

SYMBOLS: Final = {
    "aud": "A$", "brl": "R$", "cad": "CA$", "cny": "CN¥", "eur": "€", "gbp": "£", "hkd": "HK$", "ils": "₪", "inr": "₹",
    "jpy": "¥", "krw": "₩", "mxn": "MX$", "ngn": "₦", "nzd": "NZ$", "php": "₱", "pln": "zł", "rub": "₽", "thb": "฿",
    "try": "₺", "twd": "NT$", "uah": "₴", "usd": "$", "vnd": "₫",
}  # fmt: skip

DEFAULT_DECIMALS: Final = 2
DECIMALS: Final = {"jpy": 0, "krw": 0, "vnd": 0, "clp": 0, "kwd": 3, "clf": 4}

_ROUNDING: Final = Context(prec=6_000, rounding=ROUND_HALF_UP, Emax=999_999, Emin=-999_999, traps=[InvalidOperation])


def decimals(currency: str) -> int:
    """How many decimals an amount of that currency is rounded to."""
    return DECIMALS.get(currency, DEFAULT_DECIMALS)


def rounded(amount: Decimal, currency: str) -> Decimal:
    """The amount in whole smallest units of the currency, halves away from zero."""
    return amount.quantize(_unit(decimals(currency)), context=_ROUNDING)


def quotient(dividend: Decimal, divisor: Decimal, places: int) -> Decimal:
    """dividend ÷ divisor, neither below 0, with so many decimals: the nearest, of two as near the greater."""
    whole, rest = EXACT.divmod(EXACT.scaleb(dividend, places), divisor)
    if EXACT.add(rest, rest) >= divisor:
        whole = EXACT.add(whole, Decimal(1))
    return EXACT.multiply(whole, _unit(places))


def _unit(places: int) -> Decimal:
    return Decimal((0, (1,), -places))


def display(amount: Decimal, currency: str) -> str:
    """An amount with its symbol, every digit it has and at least those of its currency: `$0.10`, `$0.0004`, `CHF 5.00`."""
    whole, _, fraction = plain(amount).partition(".")
    fraction = fraction.ljust(decimals(currency), "0")
    return SYMBOLS.get(currency, f"{currency.upper()} ") + whole + (f".{fraction}" if fraction else "")
