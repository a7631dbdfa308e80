"""What is nobody else's to read, taken out of text before it meets an error, a log, an event or a terminal.

Pure but for one thing: `learn` adds to what this process knows, for an error is made where nobody hands it an
environment. Who starts a process, or finds credentials, tells it.
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from html import escape
from urllib.parse import quote, unquote, urlsplit

HIDDEN = "***"
SHORTEST = 8
"""Characters of a value that is looked for: a shorter one, such as `test`, is a part of words."""

# Names of variables that hold a secret; those of where it lies, and of what is no secret (a key's id), end
# otherwise.
_SECRET_NAME = re.compile(
    r"(SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|AUTHORIZATION|AUTH|KEY|PASS|PWD)(_[A-Z0-9]+)*$",
    re.IGNORECASE,
)
_NO_SECRET_NAME = re.compile(
    r"((?<!SECRET)_(ID)|_(FILE|PATH|URI|URL|DIR|ARN|NAME|SOCK|EXPIRATION))$|^(OLD)?PWD$", re.IGNORECASE
)
_USERINFO = re.compile(r"(\w://)[^\s/@\"'<>\\]+@")
_PARAMETER = re.compile(
    r"([?&;][\w.-]{0,60}(?:signature|token|secret|passw(?:or)?d|api_?key|access_?key(?:_?id)?|credential)[\w.-]{0,60}=)[^&;\s\"'<>\\]+",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"((?:authorization|x-amz-security-token|x-mbx-apikey|cookie)[\"']?\s{0,3}[:=]\s{0,3}[\"']?)(?:(?:basic|bearer|digest|token|AWS4-HMAC-SHA256)\s{1,3})?[^\s\"'<>\\]+",
    re.IGNORECASE,
)
# as in a DSN of Postgres
_PASSWORD = re.compile(r"\bpass(?:word|wd)\s{0,3}=\s{0,3}'?([^\s';&]+)", re.IGNORECASE)
_ALERT_NAME = re.compile(r"_ALERT_URLS$", re.IGNORECASE)
_BETWEEN_ADDRESSES = re.compile(r"[\s,]+(?=[A-Za-z][\w+-]*://)")
_TOKEN = re.compile(r"[A-Za-z0-9+/=_%]{20,}")


class Secrets:
    """Values that are replaced wherever they stand in a text.

    Args:
        values: The secrets; those shorter than `SHORTEST` are left alone.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.values = frozenset(value for value in values if len(value) >= SHORTEST)
        self._known = (
            re.compile("|".join(map(_pattern, sorted(self.values, key=lambda value: (-len(value), value)))))
            if self.values
            else None
        )
        self._starts = sorted(
            {
                form
                for value in self.values
                for form in (value, quote(value, errors="replace"), quote(value, safe="", errors="replace"))
            }
        )

    def hide(self, text: str) -> str:
        """A text without these secrets, in any form in which addresses, JSON or XML hold them, also where the
        text was cut within one.
        """
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
            if "…" in text:
                *cut, last = text.split("…")
                text = "…".join([*map(self._without_start, cut), last])
        text = _USERINFO.sub(rf"\g<1>{HIDDEN}@", text)
        return _HEADER.sub(rf"\g<1>{HIDDEN}", _PARAMETER.sub(rf"\g<1>{HIDDEN}", text))

    def _without_start(self, part: str) -> str:
        """A text that was cut, without the beginning of a secret at its end."""
        for form in self._starts:
            at = part.find(form[:SHORTEST], max(len(part) - len(form), 0))
            while at >= 0:
                if form.startswith(part[at:]):
                    return part[:at] + HIDDEN
                at = part.find(form[:SHORTEST], at + 1)
        return part


_known = Secrets()


def learn(values: Iterable[str]) -> None:
    """Have `hide` know more secrets, for as long as the process lives."""
    global _known
    found = {value for value in values if value}
    if not found <= _known.values:
        _known = Secrets(_known.values | found)


def hide(text: str) -> str:
    """A text without the secrets that this process knows, and without what stands where addresses and headers
    hold some.
    """
    return _known.hide(text)


def hide_tokens(text: str) -> str:
    """As `hide`, of a text in which a stranger may quote what he was sent: whatever looks like a token goes
    too.
    """
    return _TOKEN.sub(
        lambda run: run[0] if run[0].isalpha() and (run[0].islower() or run[0].isupper()) else HIDDEN,
        hide(text),
    )


def secrets_in(environment: Mapping[str, str]) -> set[str]:
    """The secrets among environment variables: values of names that say so, and passwords in addresses, such
    as those of proxies.
    """
    found: set[str] = set()
    for name, value in environment.items():
        if _SECRET_NAME.search(name) and not _NO_SECRET_NAME.search(name):
            found |= {value, value.strip(), *(line.strip() for line in value.splitlines())}
        if _ALERT_NAME.search(name):
            found |= secrets_of_alerts(value)
        found |= set(_PASSWORD.findall(value))
        if "@" in value and "://" in value:
            found |= _passwords(value)
    return found


def alert_addresses(value: str) -> list[str]:
    """The addresses in a list of them, between which stand commas or spaces."""
    return [one for one in (part.strip(" ,\t\r\n") for part in _BETWEEN_ADDRESSES.split(value)) if one]


def secrets_of_alerts(value: str) -> set[str]:
    """The secrets in addresses that alerts go to: each as a whole, and its parts that look like a token,
    wherever the service has them.
    """
    found: set[str] = set()
    for address in alert_addresses(value):
        rest = address.partition("://")[2]
        parts = {form for part in re.split(r"[/?&=@:#]", rest) for form in (part, unquote(part))}
        tokens = {part for part in parts if _is_token(part)}
        found |= {address, rest} | tokens | _passwords(address)
    return found


def _is_token(part: str) -> bool:
    """Whether a part of an address is none of the words that hosts, folders and people are called by."""
    mixed = part.lower() != part and part.upper() != part and part.capitalize() != part
    return "." not in part and (mixed or any(letter.isdecimal() for letter in part))


def carries_credentials(address: str) -> bool:
    """Whether an address holds what only its user should know: a name or password before its host, or a
    query, where tokens stand.
    """
    return "@" in address or "?" in address


def _passwords(address: str) -> set[str]:
    try:
        parts = urlsplit(address)
    except ValueError:
        return set()
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return (
        {password, b64encode(f"{user}:{password}".encode(errors="surrogateescape")).decode()}
        if password
        else set()
    )


def _pattern(value: str) -> str:
    """An expression for a value with each of its characters as it is, or as addresses, JSON, Python or XML
    write it.
    """
    return "".join(
        letter if letter.isascii() and letter.isalnum() else f"(?:{'|'.join(_writings(letter))})"
        for letter in value
    )


def _writings(letter: str) -> list[str]:
    plainly = {
        letter,
        json.dumps(letter)[1:-1],
        repr(letter)[1:-1],
        f"\\{letter}",
        escape(letter),
        "+" if letter == " " else letter,
    }
    quoted = "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogatepass"))
    return [*map(re.escape, sorted(plainly, key=lambda form: (-len(form), form))), f"(?i:{quoted})"]
