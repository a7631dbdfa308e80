"""What a deployment refuses, and how a step of it ends."""

from lakehouse.model.errors import LakehouseError, UsageError


class UnknownEnvironmentError(UsageError):
    """There is no file of values for an environment."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"There is no environment {name}; infra/opentofu/envs has {', '.join(known)}.")


class ExampleValueError(UsageError):
    """A value was left as the example has it."""

    def __init__(self, file: str, found: list[str]) -> None:
        super().__init__(
            f"{file} still has {', '.join(found)}, which stand for your own: fill them in before you deploy."
        )


class ChangedCheckoutError(UsageError):
    """What would be deployed has no commit."""

    def __init__(self, found: list[str]) -> None:
        super().__init__(
            f"This checkout has changes without a commit ({', '.join(found[:3])}), and images are named by "
            "commits: commit them, or put them aside."
        )


class ToolMissingError(UsageError):
    """A command that a step needs is not installed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not installed, or not on PATH: see infra/README.md.")


class StepFailedError(LakehouseError):
    """A step ended otherwise than well."""

    def __init__(self, step: str, found: str) -> None:
        super().__init__(f"{step} failed: {found}. What was done before it stands; mend it and deploy again.")


class ProtectedError(UsageError):
    """An environment does not allow its own destruction."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} protects its lake and its database. Apply it with allow_deletion = true first, if they "
            "are to go."
        )
