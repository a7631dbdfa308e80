"""Commands that serve, show and write pages and files: `demo`, `ui`, `webserver`, `healthy`, `instance`,
`simulate`, `docs`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lakehouse.cli.collecting import work_begins
from lakehouse.cli.console import out
from lakehouse.cli.reporting import Report, frame_of
from lakehouse.model.errors import LakehouseError, UsageError
from lakehouse.model.secrets import learn

if TYPE_CHECKING:
    from lakehouse.settings import Settings
    from lakehouse.ui.door import Door

Service = Literal["webserver", "code", "daemon"]

commands = typer.Typer()


@commands.command()
def simulate(
    port: Annotated[
        int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.", min=0, max=65535)
    ] = 8900,
    files: Annotated[
        Path | None,
        typer.Option(
            help="Folder of real files, arranged by archive key, served in place of synthetic ones.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="A fault, NAME or NAME=GLOB over archive keys; repeatable. `list` names them."),
    ] = None,
    speed: Annotated[
        float,
        typer.Option(
            help="How many times faster than real time its clock runs, from now on; 86400 makes a second a "
            "day.",
            min=0,
        ),
    ] = 1,
) -> None:
    """Serve a simulated exchange on this machine: archive and REST, deterministic, with faults on request."""
    from lakehouse.simulator import FAULTS, Simulator

    if fault == ["list"]:
        faults = [{"name": name, "what it does": what} for name, what in FAULTS.items()]
        Report().table("faults", frame_of(faults), prose="what it does")
        return
    work_begins()
    with Simulator(port=port, files=files, faults=fault or (), speed=speed) as exchange:
        settings = exchange.addresses | ({} if speed == 1 else {"LAKEHOUSE_CLOCK": "exchange"})
        told = " ".join(f"{name}={value}" for name, value in settings.items())
        out.print(
            f"Simulated exchanges at {exchange.url}; in another shell:\n\n  export {told}\n\nCtrl-C ends it."
        )
        _wait_for_interrupt()


def _wait_for_interrupt() -> None:
    import signal
    import threading

    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    try:
        done.wait()
    except KeyboardInterrupt:
        return


@commands.command()
def demo(
    folder: Annotated[
        Path,
        typer.Option(
            help="Where the demo's lake and Dagster instance go, in place of those of an earlier demo."
        ),
    ] = Path("demo"),
    aws: Annotated[
        bool, typer.Option(help="Against S3 and Glue endpoints on this machine, which end with the demo.")
    ] = False,
) -> None:
    """Build four markets over three months from simulated exchanges, one with faults in its archive, and say
    what was healed and how.
    """
    from lakehouse.cli.demo import run_demo

    if not run_demo(folder, aws):
        raise typer.Exit(1)


Host = Annotated[
    str,
    typer.Option(help="Address to listen on; one that others reach only with a token, or --behind-proxy."),
]
Port = Annotated[int, typer.Option(help="Its port.", min=1, max=65535)]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--name", help="A further name, NAME or NAME:PORT, under which browsers reach it; repeatable."
    ),
]
Token = Annotated[
    Path | None,
    typer.Option(
        help="File with the token that who comes in must bring; LAKEHOUSE_UI_TOKEN if left out.",
        dir_okay=False,
    ),
]
Proxied = Annotated[
    bool,
    typer.Option(
        "--behind-proxy",
        help="A proxy at --name authenticates every request, and nobody else reaches this address.",
    ),
]


def _token(settings: "Settings", file: Path | None) -> str | None:
    """The UI's token, of a file where one is named, else of the settings; no log says it from here on."""
    if file is not None:
        try:
            token: str | None = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"The token in {file} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}."
            ) from error
        if not token:
            raise UsageError(f"There is no token in {file}.")  # rather than a UI without one
    else:
        token = settings.ui_token.get_secret_value() if settings.ui_token else None
    learn([token or ""])
    return token


def _door(
    settings: "Settings",
    host: str,
    port: int,
    names: list[str] | None,
    token_file: Path | None,
    is_proxied: bool,
) -> "Door":
    from lakehouse.ui.door import door

    token = _token(settings, token_file)
    return door(host, port, names or (), token, is_proxied)


@commands.command()
def ui(
    port: Port = 3000,
    host: Host = "127.0.0.1",
    name: Names = None,
    token_file: Token = None,
    behind_proxy: Proxied = False,
    demo: Annotated[
        bool, typer.Option(help="Open the demo's lake, with its simulated exchange behind it.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="The demo's folder.")] = Path("demo"),
    open_browser: Annotated[
        bool, typer.Option("--open", help="Open a browser on it as soon as it answers.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show here what its processes and runs say.")
    ] = False,
) -> None:
    """Open Dagster's UI with its daemon: materialize, backfill, sensors.

    On this machine it lets in the user who opened it; others with a token, or what a proxy in front lets
    through.
    """
    from contextlib import nullcontext

    from lakehouse.cli.demo import demo_exchange, demo_settings, require_demo
    from lakehouse.cli.instance import check_port, run_ui
    from lakehouse.settings import Settings

    door = _door(Settings(), host, port, name, token_file, behind_proxy)
    check_port(door)
    if demo:
        require_demo(folder)
    with demo_exchange() if demo else nullcontext() as exchange:
        settings = demo_settings(folder, exchange.url) if exchange else Settings()
        run_ui(settings, door, verbose, open_browser)


@commands.command()
def webserver(
    workspace: Annotated[
        list[Path],
        typer.Option(
            help="Workspace file that names the code servers; repeatable.", exists=True, dir_okay=False
        ),
    ],
    port: Port = 3000,
    host: Host = "127.0.0.1",
    name: Names = None,
    token_file: Token = None,
    behind_proxy: Proxied = False,
    read_only: Annotated[bool, typer.Option(help="Show everything, change nothing.")] = False,
) -> None:
    """Serve only the UI, of a deployment whose daemon and code servers run elsewhere: in place of
    `dagster-webserver`, which asks nobody.
    """
    from lakehouse.cli.instance import check_port, open_instance
    from lakehouse.cli.metrics import Metrics
    from lakehouse.settings import Settings
    from lakehouse.ui.webserver import serve

    settings = Settings()
    door = _door(settings, host, port, name, token_file, behind_proxy)
    check_port(door)
    with open_instance(settings) as instance:
        serve(instance, workspace, door, read_only, Metrics(settings))


@commands.command()
def healthy(
    service: Annotated[Service, typer.Argument(help="Which service of a deployment to ask.")],
    port: Annotated[
        int | None,
        typer.Option(
            help="Port on 127.0.0.1, of webserver (3000) or code (4000).",
            min=1,
            max=65535,
            show_default=False,
        ),
    ] = None,
    token_file: Token = None,
) -> None:
    """Tell whether a service in this container does its work: exit code 0 if it does, else 1 with the reason.

    The webserver is asked over HTTP, with its token; the code server over gRPC; of the daemon, Dagster's
    instance is asked when it was last alive.
    """
    from lakehouse.settings import Settings
    from lakehouse.ui import health

    if service == "webserver":
        health.check_webserver(port or health.PORTS[service], _token(Settings(), token_file))
    elif service == "code":
        health.check_code(port or health.PORTS[service])
    else:
        health.check_daemon(Settings().dagster_home.expanduser().absolute())


@commands.command()
def instance(
    name: Annotated[str, typer.Argument(help="machine (SQLite), postgres, or ecs (runs as Fargate tasks).")],
    home: Annotated[Path, typer.Option(help="Dagster's home: the folder to write into.", file_okay=False)],
) -> None:
    """Write dagster.yaml and workspace.yaml of a deployment, which read their values from its environment."""
    from lakehouse.cli.instances import write_instance

    for path in write_instance(name, home):
        out.print(f"Wrote {path}", soft_wrap=True)


@commands.command()
def docs(
    check: Annotated[bool, typer.Option(help="Only tell whether they are current.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the pages lie.")] = Path("docs"),
) -> None:
    """Write tables.md and scale.md out of the declarations."""
    from lakehouse.ops.docs import tables_page
    from lakehouse.ops.scale_page import scale_page
    from lakehouse.registry import REGISTRY

    for name, page in {"tables.md": tables_page(REGISTRY), "scale.md": scale_page(REGISTRY)}.items():
        path = folder / name
        if check and (not path.exists() or path.read_text(encoding="utf-8") != page):
            raise LakehouseError(f"{path} is not current: run `lakehouse docs`.")
        if not check:
            try:
                path.write_text(page, encoding="utf-8")
            except OSError as error:
                raise UsageError(
                    f"{path} cannot be written: {error.strerror}. Run it in a checkout, or name another "
                    "folder with --folder."
                ) from error
