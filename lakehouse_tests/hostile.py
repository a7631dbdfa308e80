"""A folder that somebody else made, and in which a user of lakehouse happens to work."""

from pathlib import Path

MODULES = (
    "yaml",
    "dagster",
    "grpc",
    "polars",
    "typing_extensions",
    "sitecustomize",
    "usercustomize",
    "uvicorn",
    "lakehouse",
    "registry",
    "evil",
)


def make_hostile(folder: Path) -> Path:
    """Fill a folder with all that once was believed; what runs of it says so in the folder that is
    returned.
    """
    said = folder / "said"
    said.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"open({str(said / name)!r}, 'w')\nclass Evil: pass\n")
    (folder / "workspace.yaml").write_text("load_from: [{python_file: evil.py}]\n")
    (folder / "pyproject.toml").write_text('[tool.dagster]\nmodule_name = "evil"\n')
    (folder / "dagster.yaml").write_text("run_launcher: {module: evil, class: Evil}\n")
    (folder / ".env").write_text(
        f"LAKEHOUSE_ROOT={folder / 'stolen'}\nDAGSTER_HOME={folder}\nPYTHONPATH={folder}\n"
    )
    return said
