"""`lakehouse alerts`: commands that tell of what is wrong."""

import typer

from lakehouse.cli.reporting import Report, frame_of, reporting
from lakehouse.model.errors import AlertNotSentError, NoAlertAddressError

commands = typer.Typer()
alerts = typer.Typer(no_args_is_help=True, help="Messages about what is wrong, to LAKEHOUSE_ALERT_URLS.")
commands.add_typer(alerts, name="alerts")


@alerts.command()
@reporting
def test(report: Report) -> None:
    """Send a message to every address, and say which were not reached."""
    from lakehouse.ops.telling import Services
    from lakehouse.settings import Settings

    settings = Settings()
    if settings.alert_urls is None or not len(services := Services(settings.alert_urls.get_secret_value())):
        raise NoAlertAddressError
    said = (
        f"lake\ncause: somebody typed lakehouse alerts test\ncommand: lakehouse status\n"
        f"link: {settings.ui_url}/overview"
    )
    failed = services.send("lakehouse: a test", said, is_good=True)
    if failed:
        raise AlertNotSentError(failed, len(services))
    if not report.document({"sent": len(services)}):
        report.say(f"Sent to {len(services)} of {len(services)} services.")


@alerts.command()
@reporting
def check(report: Report) -> None:
    """Look now, and send what is new: what the sensor `alerts` does every minute. Run it by cron to be told
    where Dagster's daemon itself has ended.
    """
    from lakehouse.cli.instance import open_instance
    from lakehouse.definitions import alerts_of
    from lakehouse.defs.alerting import alert_once
    from lakehouse.model.errors import LakehouseError
    from lakehouse.opening import open_lake
    from lakehouse.ops.telling import Book, Services
    from lakehouse.settings import Settings

    settings = Settings()
    how = alerts_of(settings)
    if not len(services := Services(how.addresses)):
        raise NoAlertAddressError
    services.check()
    lake = open_lake(settings)
    with open_instance(settings) as instance:
        sent, problems = alert_once(lake, instance, how, Book(lake.objects), in_full=True)
    rows = [{"kind": one.kind, "phase": one.phase, "incidents": len(one.keys)} for one in sent]
    report.table("Messages sent", frame_of(rows), empty="Nothing new.")
    if problems:
        raise LakehouseError(" ".join(problems))
