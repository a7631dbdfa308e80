"""What each environment costs a month: prices and assumptions as constants, sizes from `opentofu/envs`.

python -m infra.costs            # the tables of infra/README.md
python -m infra.costs --write    # puts them there
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
README = HERE / "README.md"
ENVIRONMENTS = ("dev", "staging", "prod")
HOURS = 730  # of a month, as AWS reckons
BEGIN, END = "<!-- costs: python -m infra.costs --write -->\n", "<!-- /costs -->\n"


class Price(NamedTuple):
    """A price in ap-northeast-1, in USD, on demand, without tax.

    Attributes:
        usd: The price.
        unit: Of what.
        source: The usage type in AWS's price list, by which to look it up.
        confirmed: Whether two sources of 2026 had it; else it was found in one, or is an earlier one.
    """

    usd: float
    unit: str
    source: str
    confirmed: bool = True


PRICES = {
    "vcpu": Price(0.05056, "vCPU hour", "AmazonECS APN1-Fargate-vCPU-Hours:perCPU"),
    "memory": Price(0.00553, "GB hour", "AmazonECS APN1-Fargate-GB-Hours"),
    "nat": Price(0.062, "hour", "AmazonEC2 APN1-NatGateway-Hours"),
    "nat_gb": Price(0.062, "GB", "AmazonEC2 APN1-NatGateway-Bytes"),
    "ipv4": Price(0.005, "hour", "AmazonVPC APN1-PublicIPv4:InUseAddress"),
    "endpoint": Price(0.014, "hour and zone", "AmazonVPC APN1-VpcEndpoint-Hours"),
    "balancer": Price(0.0243, "hour", "AWSELB APN1-LoadBalancerUsage", confirmed=False),
    "db.t4g.micro": Price(0.025, "hour", "AmazonRDS APN1-InstanceUsage:db.t4g.micro", confirmed=False),
    "db.t4g.small": Price(0.051, "hour", "AmazonRDS APN1-InstanceUsage:db.t4g.small", confirmed=False),
    "db.t4g.medium": Price(0.101, "hour", "AmazonRDS APN1-InstanceUsage:db.t4g.medium", confirmed=False),
    "db_gb": Price(0.138, "GB month", "AmazonRDS APN1-RDS:GP3-Storage", confirmed=False),
    "s3_gb": Price(0.025, "GB month", "AmazonS3 APN1-TimedStorage-ByteHrs"),
    "s3_write": Price(4.7, "million", "AmazonS3 APN1-Requests-Tier1"),
    "s3_read": Price(0.37, "million", "AmazonS3 APN1-Requests-Tier2"),
    "ecr_gb": Price(0.10, "GB month", "AmazonECR APN1-TimedStorage-ByteHrs"),
    "key": Price(1.0, "key", "awskms ap-northeast-1-KMS-Keys"),
    "secret": Price(0.40, "secret", "AWSSecretsManager APN1-AWSSecretsManager-Secrets"),
    "log_gb": Price(0.76, "GB taken in", "AmazonCloudWatch APN1-DataProcessing-Bytes"),
    "metric": Price(0.30, "metric", "AmazonCloudWatch APN1-CW:MetricMonitorUsage"),
    "alarm": Price(0.10, "alarm", "AmazonCloudWatch APN1-CW:AlarmMonitorUsage"),
    "zone": Price(0.50, "zone", "AmazonRoute53 HostedZone"),
    "scanned_tb": Price(5.0, "TB", "AmazonAthena APN1-DataScannedInTB"),
}


@dataclass(frozen=True)
class Use:
    """What is done with an environment in a month: guesses, to be replaced by what a bill says.

    Attributes:
        run_hours: Hours of runs, each of the size of `sizes.run`.
        lake_gb: What the lake holds, older versions with it.
        writes: Million requests that write or list.
        reads: Million requests that read.
        nat_gb: What comes and goes by the NAT gateways: REST, manifests, logs; not the archive, not the lake.
        log_gb: Logs.
        scanned_tb: What Athena scans.
    """

    run_hours: float
    lake_gb: float
    writes: float
    reads: float
    nat_gb: float
    log_gb: float
    scanned_tb: float


USES = {
    "dev": Use(20, 20, 0.1, 1, 10, 2, 0.01),
    "staging": Use(60, 100, 0.5, 5, 20, 5, 0.05),
    "prod": Use(400, 1000, 3, 30, 50, 20, 1),
}
# metrics of Container Insights that are billed: of a service, and of the cluster
SERVICE_METRICS, CLUSTER_METRICS = 6, 6
IMAGES_GB = 5


@dataclass(frozen=True)
class Item:
    """A line of the bill.

    Attributes:
        what: What it is.
        how: The arithmetic.
        usd: A month.
    """

    what: str
    how: str
    usd: float


def variables(environment: str) -> dict[str, Any]:
    """What an environment decides."""
    told = json.loads((HERE / "opentofu" / "envs" / f"{environment}.tfvars.json").read_text("utf-8"))
    return dict(told)


def items(told: dict[str, Any], use: Use) -> Iterator[Item]:
    """The lines of an environment's bill."""
    services = ["webserver", "daemon", "code"]
    sizes = {name: (told["sizes"][name], 1) for name in services}
    if told["viewers"]:
        sizes["viewer"] = (told["sizes"]["viewer"], told["viewers"])
    if told["trino"]["enabled"]:
        sizes["trino coordinator"] = (told["trino"]["coordinator"], 1)
        sizes["trino workers"] = (told["trino"]["worker"], told["trino"]["workers"])
    for name, (size, count) in sizes.items():
        yield _task(name, size, count * HOURS, f"{count} x {HOURS} h")
    yield _task("runs", told["sizes"]["run"], use.run_hours, f"{use.run_hours:g} h")

    gateways = told["nat_gateways"]
    yield _of("NAT gateways", "nat", gateways * HOURS, f"{gateways} x {HOURS} h")
    yield _of("their addresses", "ipv4", gateways * HOURS, f"{gateways} x {HOURS} h")
    yield _of("what they carry", "nat_gb", use.nat_gb, f"{use.nat_gb:g} GB")
    if told["interface_endpoints"]:
        count, zones = len(told["interface_endpoints"]), len(told["availability_zones"])
        yield _of("endpoints", "endpoint", count * zones * HOURS, f"{count} x {zones} zones x {HOURS} h")
    yield _of("load balancer", "balancer", HOURS, f"{HOURS} h")

    database, copies = told["database"], 1 + told["database"]["multi_az"]
    yield _of("database", database["class"], copies * HOURS, f"{copies} x {database['class']} x {HOURS} h")
    stored = copies * database["storage_gb"]
    yield _of("its disk", "db_gb", stored, f"{copies} x {database['storage_gb']} GB")

    yield _of("lake", "s3_gb", use.lake_gb, f"{use.lake_gb:g} GB")
    yield _of("writing it", "s3_write", use.writes, f"{use.writes:g} million")
    yield _of("reading it", "s3_read", use.reads, f"{use.reads:g} million")
    yield _of("Athena", "scanned_tb", use.scanned_tb, f"{use.scanned_tb:g} TB")
    yield _of("images", "ecr_gb", IMAGES_GB, f"{IMAGES_GB} GB")
    yield _of("keys", "key", 3, "lake, operations, state")
    yield _of("secrets", "secret", 2, "the UI's and the database's")
    yield _of("logs", "log_gb", use.log_gb, f"{use.log_gb:g} GB")
    metrics = len(sizes) * SERVICE_METRICS + CLUSTER_METRICS
    yield _of("metrics", "metric", metrics, f"{len(sizes)} services x {SERVICE_METRICS} + {CLUSTER_METRICS}")
    watched = len(sizes) - (1 if told["trino"]["enabled"] else 0) + 8  # services, database 2, UI 1, logs 5
    yield _of("alarms", "alarm", watched, f"{watched}")
    yield _of("names within", "zone", 1, "1 zone")


def _of(what: str, price: str, amount: float, how: str) -> Item:
    cost = PRICES[price]
    return Item(what, f"{how} x {cost.usd:g} per {cost.unit}", amount * cost.usd)


def _task(what: str, size: dict[str, float], hours: float, how: str) -> Item:
    vcpu, memory = size["cpu"] / 1024, size["memory"] / 1024
    hour = vcpu * PRICES["vcpu"].usd + memory * PRICES["memory"].usd
    said = f"{how} x ({vcpu:g} vCPU x {PRICES['vcpu'].usd:g} + {memory:g} GB x {PRICES['memory'].usd:g})"
    return Item(what, said, hours * hour)


def with_trino(told: dict[str, Any]) -> dict[str, Any]:
    """The same environment with Trino switched on."""
    return told | {"trino": told["trino"] | {"enabled": True}}


def bills() -> dict[str, list[Item]]:
    """The bill of each environment, and of prod with Trino."""
    found = {name: list(items(variables(name), USES[name])) for name in ENVIRONMENTS}
    return found | {"prod with Trino": list(items(with_trino(variables("prod")), USES["prod"]))}


def total(bill: list[Item]) -> float:
    """What a bill comes to."""
    return sum(item.usd for item in bill)


def page() -> str:
    """The tables of the README."""
    found = bills()
    lines = ["| | " + " | ".join(found) + " |", "|---|" + "---:|" * len(found)]
    for what in dict.fromkeys(item.what for bill in found.values() for item in bill):
        cells = [sum(item.usd for item in bill if item.what == what) for bill in found.values()]
        lines.append(f"| {what} | " + " | ".join(f"{usd:.2f}" if usd else "" for usd in cells) + " |")
    lines.append(
        "| **USD a month** | " + " | ".join(f"**{total(bill):.0f}**" for bill in found.values()) + " |"
    )
    lines += ["", "The arithmetic of dev; the others' by `python -m infra.costs ENVIRONMENT`:", ""]
    lines += ["| | | USD |", "|---|---|---:|"]
    lines += [f"| {item.what} | {item.how} | {item.usd:.2f} |" for item in found["dev"]]
    doubted = ", ".join(f"{name} ({one.source})" for name, one in PRICES.items() if not one.confirmed)
    lines += ["", f"Prices that were found in one source alone: {doubted}."]
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """A README with today's tables."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + page() + END + rest.split(END)[1]


def main(words: list[str]) -> None:
    """What the command line asks for."""
    if words == ["--write"]:
        README.write_text(written(README.read_text("utf-8")), "utf-8")
    elif words:
        bill = bills()[" ".join(words)]
        sys.stdout.writelines(f"{item.usd:9.2f}  {item.what}: {item.how}\n" for item in bill)
        sys.stdout.write(f"{total(bill):9.2f}  USD a month\n")
    else:
        sys.stdout.write(page())


if __name__ == "__main__":
    main(sys.argv[1:])
