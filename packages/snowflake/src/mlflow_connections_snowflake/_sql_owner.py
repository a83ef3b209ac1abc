"""The owner's part: translators, external functions, stages, and who may use them.

Functions are replaced, so that a new version takes effect. That drops their grants, and Snowflake
has no future grants on external functions: each is granted again right after.
"""

from collections.abc import Iterator

from ._functions import BY_KEY, FUNCTIONS, Function
from ._names import Name, literal
from ._setup import Setup
from ._statement import OWNER, Statement, Thing, create, grant, use_role
from ._translators import RESPONSE, source


def owner_part(setup: Setup) -> Iterator[Statement]:
    """Give the owner's statements, in order: a translator before the functions that name it."""
    yield use_role(OWNER, setup.roles.owner)
    yield from _translator(setup, setup.response_translator, RESPONSE)
    for function in FUNCTIONS:
        yield from _translator(setup, setup.request_translator(function.key), function.key)
        for arguments in function.signatures:
            yield from _external_function(setup, function, arguments)
    yield from _stages(setup)


def translators(setup: Setup) -> list[Thing]:
    """Give all translators."""
    names = [setup.request_translator(function.key) for function in FUNCTIONS]
    return [_translator_thing(name) for name in (*names, setup.response_translator)]


def external_functions(setup: Setup) -> list[Thing]:
    """Give all external functions, each signature for itself."""
    return [
        _function_thing(name, arguments)
        for key, name in setup.functions.items()
        for arguments in BY_KEY[key].signatures
    ]


def stages(setup: Setup) -> list[Thing]:
    """Give all stages."""
    names = [setup.stage, *([setup.storage.internal_stage] if setup.storage else [])]
    return [Thing("STAGE", name) for name in names]


def _translator_thing(name: Name) -> Thing:
    return Thing("FUNCTION", name, ("OBJECT",))


def _function_thing(name: Name, arguments: tuple[tuple[str, str], ...]) -> Thing:
    return Thing("EXTERNAL FUNCTION", name, tuple(kind for _, kind in arguments))


def _translator(setup: Setup, name: Name, key: str) -> Iterator[Statement]:
    thing = _translator_thing(name)
    yield Statement(
        OWNER,
        f"the translator {key}.js",
        f"CREATE OR REPLACE FUNCTION {name.sql}(EVENT OBJECT)\n"
        "  RETURNS OBJECT\n"
        "  LANGUAGE JAVASCRIPT\n"
        "  VOLATILE\n"
        f"  AS $$\n{source(key)}$$",
        thing,
    )
    yield grant(OWNER, "USAGE", thing, setup.roles.caller)


def _external_function(
    setup: Setup, function: Function, arguments: tuple[tuple[str, str], ...]
) -> Iterator[Statement]:
    gateway, _, _ = setup.generating()
    name = setup.functions[function.key]
    thing = _function_thing(name, arguments)
    declared = ", ".join(f"{argument} {kind}" for argument, kind in arguments)
    yield Statement(
        OWNER,
        function.comment,
        f"CREATE OR REPLACE EXTERNAL FUNCTION {name.sql}({declared})\n"
        "  RETURNS VARIANT\n"
        "  VOLATILE\n"
        f"  COMMENT = {literal(function.comment)}\n"
        f"  API_INTEGRATION = {gateway.integration.sql}\n"
        f"  MAX_BATCH_ROWS = {function.rows}\n"
        # MLflow answers 400 to a gzip body, which is what AUTO sends.
        "  COMPRESSION = NONE\n"
        f"  REQUEST_TRANSLATOR = {setup.request_translator(function.key).sql}\n"
        f"  RESPONSE_TRANSLATOR = {setup.response_translator.sql}\n"
        f"  AS {literal(gateway.prefix + function.endpoint)}",
        thing,
    )
    yield grant(OWNER, "USAGE", thing, setup.roles.caller)


def _stages(setup: Setup) -> Iterator[Statement]:
    caller = setup.roles.caller
    # Uploads go to an internal stage: a client's PUT to an external one is refused (091003).
    *external, internal = stages(setup)
    if setup.storage and external:
        yield create(
            OWNER,
            external[0],
            f"URL = {literal(setup.storage.location)}",
            f"STORAGE_INTEGRATION = {setup.storage.integration.sql}",
            purpose="the stage on MLflow's artifact root",
        )
        yield grant(OWNER, "USAGE", external[0], caller)
    yield create(OWNER, internal, purpose="the stage that takes uploads")
    # Snowflake grants WRITE on a stage only to who has READ.
    yield grant(OWNER, "READ", internal, caller)
    yield grant(OWNER, "WRITE", internal, caller)
