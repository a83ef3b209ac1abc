"""All SQL of the bridge. It can be run again at any time.

The forms of statements, each name in double quotes and each clause on a line of its own:

    USE ROLE r
    CREATE ROLE | DATABASE | SCHEMA | STAGE IF NOT EXISTS n
    CREATE API INTEGRATION | STORAGE INTEGRATION IF NOT EXISTS n …
    ALTER API INTEGRATION | STORAGE INTEGRATION n SET …
    CREATE STAGE IF NOT EXISTS n URL = '…' STORAGE_INTEGRATION = n
    CREATE OR REPLACE FUNCTION n(EVENT OBJECT) RETURNS OBJECT LANGUAGE JAVASCRIPT VOLATILE AS $$…$$
    CREATE OR REPLACE EXTERNAL FUNCTION n(a type, …) RETURNS VARIANT VOLATILE COMMENT = '…'
        API_INTEGRATION = n MAX_BATCH_ROWS = i COMPRESSION = NONE
        REQUEST_TRANSLATOR = n RESPONSE_TRANSLATOR = n AS 'https://…'
    GRANT ROLE r TO ROLE r
    GRANT USAGE | READ | WRITE | CREATE FUNCTION | CREATE STAGE
        ON INTEGRATION n | DATABASE n | SCHEMA n | FUNCTION n(type, …) | STAGE n TO ROLE r
    DROP FUNCTION IF EXISTS n(type, …);  DROP STAGE | INTEGRATION IF EXISTS n

Those of external access stand in `_external_access`.
"""

from ._external_access import external_access_alone, external_access_part, things
from ._setup import Setup
from ._sql_admin import admin_part, api_integration, storage_integration
from ._sql_owner import external_functions, owner_part, stages, translators
from ._statement import ADMIN, OWNER, Statement, Thing, drop, use_role


def statements(setup: Setup) -> list[Statement]:
    """Give every statement that sets the bridge up, in order.

    Raises:
        MissingOptionError: The setup lacks what only the generator needs.
    """
    if _is_external_access_alone(setup):
        return [*external_access_alone(setup), *external_access_part(setup)]
    return [*admin_part(setup), *external_access_part(setup), *owner_part(setup)]


def drops(
    setup: Setup, *, with_stages: bool = False, with_integrations: bool = False
) -> list[Statement]:
    """Give the statements that take the bridge away again, in order.

    Args:
        setup: The setup.
        with_stages: Also the stages; what lies on an internal one is then lost.
        with_integrations: Also the integrations; what the cloud's administrator set up is then void.

    Raises:
        MissingOptionError: The setup lacks what only the generator needs.
    """
    dropped: list[Statement] = []
    if not _is_external_access_alone(setup):
        setup.generating()
        # A function before the translators that it names.
        mine = [
            *external_functions(setup),
            *translators(setup),
            *(stages(setup) if with_stages else ()),
        ]
        dropped = [use_role(OWNER, setup.roles.owner), *(drop(OWNER, thing) for thing in mine)]
    if with_integrations:
        dropped.append(use_role(ADMIN, setup.roles.admin))
        dropped += [drop(ADMIN, thing) for thing in _integrations(setup)]
    return dropped


def _is_external_access_alone(setup: Setup) -> bool:
    return setup.gateway is None and setup.external_access is not None


def _integrations(setup: Setup) -> list[Thing]:
    found: list[Thing] = []
    if not _is_external_access_alone(setup):
        gateway, _, _ = setup.generating()
        found.append(api_integration(gateway))
        if setup.storage:
            found.append(storage_integration(setup.storage))
    if setup.external_access:
        # An integration before the rule and the secret that it names.
        found += reversed(things(setup.external_access))
    return found


def script(written: list[Statement]) -> str:
    """Give statements as a file for people to read and for Snowflake to run."""
    lines: list[str] = []
    part = ""
    for statement in written:
        if statement.part != part:
            part = statement.part
            lines.append(f"-- The {part}'s part.\n")
        # A name may hold a line break, which would end the comment.
        purpose = " ".join(statement.purpose.split())
        lines.append(f"-- {purpose}\n{statement.sql};\n")
    return "\n".join(lines)
