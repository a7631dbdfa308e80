"""Draws what others may send: sound bytes that were damaged, and documents of the right shape with hostile
values.
"""

import json
import zipfile
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from hypothesis import strategies as st

from lakehouse_tests.making import HEADER, klines, text, zipped

DEEP = "[" * 5_000 + "]" * 5_000
JSON_VALUES = (
    *(
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1.5",
        "1e999",
        "-1e-999",
        "NaN",
        "Infinity",
        "99999999999999999999",
        "9" * 5_000,
        "0." + "1" * 5_000,
    ),
    *(
        '""',
        '"x"',
        '"\\ud800"',
        '"\\u0000"',
        '"\\u001b[2J"',
        '"\\u202e"',
        f'"{"x" * 5_000}"',
        f'"{"9" * 5_000}"',
        '"NaN"',
        '"-1121"',
        '"2024-02-05"',
        '"TRADING"',
    ),
    *(
        "[]",
        "{}",
        "[[]]",
        "[null]",
        '{"a": 1, "a": 2}',
        '{"code": -1121, "msg": 7}',
        '[{"a": []}]',
        DEEP,
        '{"a":' * 3_000 + "1" + "}" * 3_000,
        "-1003",
        "1711929600000",
        "",
    ),
)
FIELDS = (
    *(
        "",
        "0",
        "-1",
        "1",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "1e308",
        "1e-320",
        "9" * 25,
        "9" * 500,
        "0x10",
        "1_000",
        " 1",
        "1 ",
        "+1",
        "١",
        "1.2.3",
        "1e",
        "null",
        "None",
    ),
    *(
        '"1"',
        "'1'",
        "a,b",
        "\x00",
        "\x1b[2J",
        "é",
        "1706745600000",
        "1706745600000000",
        "1706745600",
        "17067456000000000",
        "253402300800000",
        "-62135596800000",
        "18446744073709551616",
    ),
)


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """Bytes with a few changes."""
    body = bytearray(sound)
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(0, len(body))), draw(st.integers(1, 64))
        match draw(st.sampled_from(["flip", "cut", "insert", "repeat", "drop", "number"])):
            case "flip" if at < len(body):
                body[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del body[at:]
            case "insert":
                body[at:at] = draw(st.binary(min_size=1, max_size=16))
            case "repeat":
                body[at:at] = body[at : at + length] * draw(st.integers(1, 20))
            case "drop":
                del body[at : at + length]
            case _:
                body[at : at + 4] = draw(
                    st.sampled_from([0, 1, 2**31 - 1, 2**32 - 1, 2**31, 65_535])
                ).to_bytes(4, "little")
    return bytes(body)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for name, item in inner for found in _paths(item, (*path, name)))]


@st.composite
def json_like(draw: st.DrawFn, sound: Any) -> bytes:
    """A document with some of its values replaced, dropped or renamed; or any document; or damaged bytes of
    it.
    """
    how = draw(st.integers(0, 9))
    if how == 0:
        return draw(damaged(json.dumps(sound).encode()))
    if how == 9:
        return json.dumps(sound).encode()
    if how == 1:
        anything = st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
            ),
        )
        return json.dumps(draw(anything)).encode("utf-8", "replace")
    copy, replaced = json.loads(json.dumps(sound)), list[str]()
    for number in range(draw(st.integers(1, 3))):
        *above, name = draw(st.sampled_from([path for path in _paths(copy) if path] or [("",)]))
        place = copy
        for part in above:
            place = place[part]
        if not isinstance(place, dict | list) or not place:
            break
        if isinstance(place, dict) and draw(st.integers(0, 4)) == 0:
            place[
                draw(
                    st.sampled_from(["", "x", name.upper() if isinstance(name, str) else "y", "code", "seal"])
                )
            ] = place.pop(name)
            continue
        place[name] = f"@{number}@"
        replaced.append(draw(st.sampled_from(JSON_VALUES)))
    written = json.dumps(copy)
    for number, value in enumerate(replaced):
        written = written.replace(f'"@{number}@"', value)
    return written.encode("utf-8", "replace")


LINES = klines("2024-02-01", 30)


@st.composite
def csvs(draw: st.DrawFn) -> bytes:
    """A kline CSV with hostile fields, lines and ends."""
    if draw(st.integers(0, 4)) == 0:
        return draw(damaged(text(LINES)))
    lines = list(LINES[: draw(st.integers(0, 30))])
    for _ in range(draw(st.integers(0, 3))):
        if not lines:
            break
        row = draw(st.integers(0, len(lines) - 1))
        fields = lines[row].split(",")
        match draw(st.integers(0, 4)):
            case 0:
                lines.insert(row, lines[row])
            case 1:
                lines[row] = draw(
                    st.sampled_from(
                        [
                            "",
                            " ",
                            ",",
                            "," * 11,
                            "," * 12,
                            HEADER,
                            "\ufeff" + lines[row],
                            lines[row] + ",1",
                            "#",
                            "\r",
                            '"',
                        ]
                    )
                )
            case _:
                fields[draw(st.integers(0, len(fields) - 1))] = draw(st.sampled_from(FIELDS))
                lines[row] = ",".join(fields)
    lines = [HEADER, *lines] if draw(st.booleans()) else lines
    return draw(st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n"])).join(
        line.encode("utf-8", "replace") for line in lines
    ) + draw(st.sampled_from([b"", b"\n", b"\x00", b"\n\n"]))


@st.composite
def zips(draw: st.DrawFn, name: str) -> bytes:
    """A zip: of one sound CSV and damaged, or of odd members."""
    sound = (name, text(LINES))
    if draw(st.booleans()):
        return draw(
            damaged(
                zipped(sound, compression=draw(st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])))
            )
        )
    names = st.sampled_from(
        [
            name,
            "",
            "/",
            "../x.csv",
            "a/b.csv",
            "x" * 300 + ".csv",
            name.upper(),
            "__MACOSX/._a",
            "a.txt",
            "\x1b[2J.csv",
            "币.csv",
            name + "\x00.csv",
            "..csv",
        ]
    )
    members = draw(
        st.lists(
            st.tuples(names, st.sampled_from([b"", sound[1], b"\x00" * 1_000, b"a,b\n", b"PK"])), max_size=3
        )
    )
    how = draw(
        st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    )
    sink = BytesIO()
    with zipfile.ZipFile(sink, "w", how) as archive:
        for member, content in dict(members).items():
            archive.writestr(zipfile.ZipInfo(member, (2024, 1, 1, 0, 0, 0)), content, how)
    body = bytearray(sink.getvalue())
    for _ in range(draw(st.integers(0, 2))):  # the numbers of the directory: sizes, offsets, flags, methods
        at = body.rfind(b"PK\x01\x02") + draw(st.integers(4, 46))
        if 0 <= at < len(body) - 2:
            body[at : at + 2] = draw(
                st.sampled_from(
                    [b"\x00\x00", b"\xff\xff", b"\x01\x00", b"\x0c\x00", b"\x63\x00", b"\xff\x7f"]
                )
            )
    return bytes(body)


@st.composite
def checksums(draw: st.DrawFn, digest: str, name: str) -> bytes:
    """A CHECKSUM, with the right digest or not."""
    digests = st.sampled_from(
        [digest, digest.upper(), "0" * 64, digest[:-1], digest + "0", "", "x" * 64, "é" * 64]
    )
    names = st.sampled_from(
        [
            name,
            "",
            "x" * 50_000,
            "../" + name,
            name + "\n" + name,
            "\x1b]0;x\x07",
            "\u202e" + name,
            name + " ",
            "a b",
            "\t",
        ]
    )
    made = (
        draw(digests)
        + draw(st.sampled_from(["  ", " ", "\t", " *", "", " " * 20_000, "\n"]))
        + draw(names)
        + draw(st.sampled_from(["\n", "", "\r\n", "\n\n", " "]))
    )
    return draw(damaged(made.encode())) if draw(st.integers(0, 3)) == 0 else made.encode()


@st.composite
def listings(draw: st.DrawFn, keys: Sequence[str]) -> bytes:
    """A page of an S3 listing."""
    odd = st.sampled_from(
        [
            "",
            "x",
            "-1",
            "9" * 5_000,
            "1e3",
            "NaN",
            "2024-02-05",
            "9999-12-31T23:59:59-23:59",
            "0001-01-01T00:00:00+23:59",
            "&#27;",
            "&#0;",
            "&lol;",
            "%00",
            "%FF",
            "<b/>",
            "a//b",
            "..",
            "é",
        ]
    )
    entries = []
    for key in draw(st.lists(st.sampled_from(keys), max_size=4)):
        parts = {
            "Key": key,
            "LastModified": "2024-03-01T00:00:00.000Z",
            "ETag": "&quot;abc&quot;",
            "Size": "10",
            "StorageClass": "STANDARD",
        }
        for _ in range(draw(st.integers(0, 2))):
            name = draw(st.sampled_from(list(parts)))
            parts[name] = draw(odd)
            if draw(st.integers(0, 4)) == 0:
                del parts[name]
                parts["Key2"] = key
        entries.append(
            "<Contents>"
            + "".join(f"<{name}>{value}</{name}>" for name, value in parts.items())
            + "</Contents>"
        )
    head = draw(
        st.sampled_from(
            [
                '<?xml version="1.0" encoding="UTF-8"?>',
                "",
                '<?xml version="1.0" encoding="UTF-16"?>',
                '<!DOCTYPE x [<!ENTITY lol "lol">]>',
                "<?xml?>",
            ]
        )
    )
    root = draw(st.sampled_from(["ListBucketResult"] * 5 + ["Error", "html", "listbucketresult"]))
    space = draw(st.sampled_from([' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', "", ' xmlns:a="b"']))
    inner = "".join(entries) + draw(
        st.sampled_from(
            [
                "",
                "<IsTruncated>true</IsTruncated>",
                "<IsTruncated>false</IsTruncated>",
                "<IsTruncated>maybe</IsTruncated>",
                "<a>" * 3_000 + "</a>" * 3_000,
            ]
        )
    )
    tokens = draw(
        st.sampled_from(["", "<NextContinuationToken>x</NextContinuationToken>", "<NextContinuationToken/>"])
    )
    made = f"{head}<{root}{space}><Name>data.binance.vision</Name><MaxKeys>1000</MaxKeys><KeyCount>{len(entries)}</KeyCount>{tokens}{inner}</{root}>".encode()
    return draw(damaged(made)) if draw(st.integers(0, 3)) == 0 else made
