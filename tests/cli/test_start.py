"""Loading the commands is quick: what is heavy loads when a command needs it."""

import subprocess
import sys


def test_loading_the_administration_commands_loads_no_database_and_no_http_library() -> None:
    look = (
        "import sys; from mpesa_mcp.cli import credentials, database, doctor, keys, organizations; "
        "heavy = {'sqlalchemy', 'sqlmodel', 'alembic', 'httpx2', 'cryptography', 'mcp'} & set(sys.modules); "
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    loaded = subprocess.run([sys.executable, "-c", look], check=False, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
