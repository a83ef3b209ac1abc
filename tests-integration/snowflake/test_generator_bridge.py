"""sql, apply, check and drop on the stand-in, through the gateways of three clouds."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from snowflake.snowpark import Session

from mlflow_connections import AccessError
from mlflow_connections_sandbox import Fault, MlflowServer
from mlflow_connections_sandbox._snowflake import BASES, MLFLOW_URL, Snowflake
from mlflow_connections_snowflake import (
    Client,
    Finding,
    apply,
    check,
    drops,
    load,
    open_session,
    openapi,
    script,
    statements,
)
from mlflow_connections_snowflake._cli import main


def wrong(bridge: Any) -> list[Finding]:
    """Return the faults that a check of the bridge finds."""
    return [finding for finding in check(bridge.session, bridge.setup) if not finding.ok]


def scalar(session: Session, sql: str) -> str:
    """Return the one value of a statement, as text: a VARIANT's text arrives in double quotes."""
    [[value]] = session.sql(sql).collect()
    return str(value).strip('"')


@pytest.mark.parametrize("provider", list(BASES))
def test_one_command_after_another(
    snowflake: Snowflake,
    provider: str,
    write_config: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`sql`, `apply`, `check` and `drop` each print what they did."""
    for name, value in snowflake.environment().items():
        monkeypatch.setenv(name, value)
    config = write_config(provider)
    setup = load(config)

    assert main(["sql", "--config", str(config)]) == 0
    assert capsys.readouterr().out == script(statements(setup))

    assert main(["apply", "--config", str(config), "--dry-run"]) == 0
    assert capsys.readouterr().out == script(statements(setup))
    assert main(["check", "--config", str(config)]) == 1
    assert "api integration MLFLOW_API is missing" in capsys.readouterr().out

    for part in ("admin", "owner"):
        assert main(["apply", "--config", str(config), "--part", part]) == 0
    assert "statements ran." in capsys.readouterr().err

    # The cloud's administrator has not acted yet, and is told which values to enter.
    assert main(["check", "--config", str(config)]) == 1
    told = capsys.readouterr().out
    assert "1 to fix." in told
    assert "DESCRIBE INTEGRATION" in told
    assert "Snowflake identifies itself as " in told
    snowflake.trust("MLFLOW_API")

    assert main(["check", "--config", str(config)]) == 0
    assert capsys.readouterr().out.endswith("Nothing to fix.\n")

    assert main(["drop", "--config", str(config)]) == 0
    assert main(["check", "--config", str(config)]) == 1
    assert "external function DEMO.DEMO.MLFLOW_RUN_CREATE(VARCHAR) is missing" in (
        capsys.readouterr().out
    )


def test_external_access_alone(
    snowflake: Snowflake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a gateway the same commands create external access, report missing objects, and drop it."""
    for name, value in snowflake.environment().items():
        monkeypatch.setenv(name, value)
    access = {"url": MLFLOW_URL, "token_from_env": "MLFLOW_SNOWFLAKE_TOKEN"}
    section = {"experiment_name": "x", "database": "demo", "schema": "demo"}
    config = tmp_path / "snowflake.yml"
    config.write_text(yaml.safe_dump({"mlflow": {**section, "external_access": access}}))
    given = ("--config", str(config))

    assert main(["check", *given]) == 1
    told = capsys.readouterr().out
    assert "external access integration MLFLOW_ACCESS is missing" in told
    assert "no     external access: MLFLOW_ACCESS is not set up" in told
    assert main(["apply", *given, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "SECRET_STRING = '${MLFLOW_SNOWFLAKE_TOKEN}'" in shown
    for _ in range(2):
        assert main(["apply", *given]) == 0
    assert "statements ran." in capsys.readouterr().err
    assert main(["check", *given]) == 0
    told = capsys.readouterr().out
    assert told.endswith("Nothing to fix.\n")
    assert "yes    external access: MLFLOW_ACCESS" in told
    assert "no     external functions: " in told
    assert snowflake.public.token not in shown + told
    secret = snowflake.account.catalog.get(("SECRET", ("DEMO", "DEMO", "MLFLOW_TOKEN"), None))
    assert secret.properties["SECRET_STRING"] == snowflake.public.token

    monkeypatch.delenv("MLFLOW_SNOWFLAKE_TOKEN")
    snowflake.statements.clear()
    assert main(["apply", *given]) == 2
    assert snowflake.statements.matching('"DEMO"') == [], "nothing ran"
    assert "MLFLOW_SNOWFLAKE_TOKEN" in capsys.readouterr().err
    assert main(["drop", *given, "--integrations"]) == 0
    assert main(["check", *given]) == 1
    assert "network rule DEMO.DEMO.MLFLOW_EGRESS is missing" in capsys.readouterr().out


def test_the_sql_of_the_specifications_users(each_bridge: Any) -> None:
    """The five functions, called with the SQL that users have written, create a run in MLflow."""
    session, experiment = each_bridge.session, each_bridge.setup.experiment_name
    created = each_bridge.mlflow.create_experiment(experiment)
    experiment_id = scalar(
        session,
        f"SELECT demo.demo.mlflow_experiment_get_by_name('{experiment}')"
        ":body.experiments[0].experiment_id",
    )
    assert experiment_id == created
    run_id = scalar(
        session, f"SELECT demo.demo.mlflow_run_create({experiment_id}):body.run.info.run_id"
    )
    session.sql(f"select demo.demo.mlflow_run_log_metric('{run_id}', 'rmse', 0.25)").collect()
    session.sql(
        f"select demo.demo.mlflow_run_log_parameter('{run_id}', 'owner', 'it''s me')"
    ).collect()
    session.sql(f"select demo.demo.mlflow_run_update('{run_id}', 'FINISHED')").collect()

    run = each_bridge.mlflow.get_run(run_id)
    assert run.info.experiment_id == created
    assert run.data.metrics == {"rmse": 0.25}
    assert run.data.params == {"owner": "it's me"}
    assert run.info.status == "FINISHED"
    assert run.info.end_time >= run.info.start_time > 1_700_000_000_000


def test_an_applied_bridge_has_no_faults(each_bridge: Any) -> None:
    """After apply, a check finds nothing to fix."""
    assert wrong(each_bridge) == []


def test_the_gateways_definition_allows_every_call(each_bridge: Any, mlflow_server: Any) -> None:
    """With the written definition in force every call works, and no other path is open."""
    setup = each_bridge.setup
    gateway = each_bridge.stand_in.gateways[setup.require_gateway()[0].provider]
    gateway.define(openapi(setup, mlflow_server.url))
    try:
        client = Client(each_bridge.session, setup.functions)
        run_id = client.create_run(client.ensure_experiment("through-the-gateway"))["info"][
            "run_id"
        ]
        client.log_batch(run_id, params={"a": 1})
        client.log_metric(run_id, "m", 1)
        client.log_parameter(run_id, "p", 1)
        client.set_tag(run_id, "t", 1)
        client.update_run(run_id, "FAILED")
        assert each_bridge.mlflow.get_run(run_id).info.status == "FAILED"
        assert all(method == "POST" for method, _ in gateway.operations)
        assert not any("delete-experiment" in path for _, path in gateway.operations)
    finally:
        gateway.operations = None


def test_applying_again_breaks_no_trust(each_bridge: Any) -> None:
    """A second apply changes neither Snowflake's identity in the cloud nor the callers' rights."""
    session, setup = each_bridge.session, each_bridge.setup
    describe = f"DESCRIBE INTEGRATION {setup.require_gateway()[0].integration.sql}"
    before = session.sql(describe).collect()
    apply(session, statements(setup))
    session.use_role("ACCOUNTADMIN")
    assert session.sql(describe).collect() == before
    assert wrong(each_bridge) == []


def test_a_caller_may_only_call(bridge: Any) -> None:
    """With the caller's role all functions work, and nothing can be created or replaced."""
    session = bridge.session
    session.use_role("MLFLOW_CALLER")
    try:
        client = Client(session, bridge.setup.functions)
        run_id = client.create_run(client.ensure_experiment("callers"))["info"]["run_id"]
        assert bridge.mlflow.get_run(run_id).info.status == "RUNNING"
        for statement in statements(bridge.setup):
            if statement.run_as == "owner" and statement.verb == "CREATE":
                with pytest.raises(Exception, match=r"(?i)privilege|authorized"):
                    session.sql(statement.sql).collect()
    finally:
        session.use_role("ACCOUNTADMIN")


def test_an_owner_needs_only_the_granted_privileges(bridge: Any) -> None:
    """The owner's part runs with only the owner's role, without the administrator."""
    owner = Session.builder.configs(bridge.stand_in.connection(role="MLFLOW_OWNER")).create()
    with contextlib.closing(owner):
        apply(owner, [s for s in statements(bridge.setup) if s.run_as == "owner"])
    assert wrong(bridge) == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [({"password": "wrong-one"}, AccessError), ({"role": "NOBODY"}, AccessError)],
)
def test_a_refused_login_is_one_sentence(
    snowflake: Snowflake,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    kind: type[Exception],
) -> None:
    """A refused login is one sentence, which shows no password."""
    for key, value in snowflake.connection(**change).items():
        monkeypatch.setenv(f"SNOWFLAKE_{key.upper()}", str(value))
    with pytest.raises(kind, match="No session with Snowflake: ") as caught:
        open_session()
    assert "wrong-one" not in str(caught.value)
    assert snowflake.password not in str(caught.value)


def test_the_environment_is_enough(snowflake: Snowflake, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variables of Snowflake's own command line, no file is needed."""
    for key, value in snowflake.connection().items():
        monkeypatch.setenv(f"SNOWFLAKE_{key.upper()}", str(value))
    with open_session() as session:
        assert scalar(session, "SELECT 1") == "1"


DAMAGE = (
    'DROP FUNCTION "DEMO"."DEMO"."MLFLOW_RUN_CREATE"(VARCHAR)',
    'DROP FUNCTION "DEMO"."DEMO"."MLFLOW_RESPONSE"(OBJECT)',
    'DROP FUNCTION "DEMO"."DEMO"."MLFLOW_CALL_REQUEST"(OBJECT)',
    'DROP STAGE "DEMO"."DEMO"."MLFLOW_UPLOADS"',
    (
        'REVOKE USAGE ON FUNCTION "DEMO"."DEMO"."MLFLOW_RUN_UPDATE"(VARCHAR, VARCHAR) '
        'FROM ROLE "MLFLOW_CALLER"'
    ),
    'REVOKE USAGE ON INTEGRATION "MLFLOW_STORAGE" FROM ROLE "MLFLOW_OWNER"',
    'REVOKE USAGE ON SCHEMA "DEMO"."DEMO" FROM ROLE "MLFLOW_CALLER"',
    'ALTER API INTEGRATION "MLFLOW_API" SET ENABLED = FALSE',
    "ALTER API INTEGRATION \"MLFLOW_API\" SET API_ALLOWED_PREFIXES = ('https://else.where/')",
)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_check_names_the_fix(bridge: Any, damage: str) -> None:
    """Each removed object is named, and running the printed statements creates it again."""
    bridge.session.sql(damage).collect()
    found = wrong(bridge)
    # A damaged bridge may also fail a call; that is a consequence, not a cause.
    causes = [finding for finding in found if finding.what != "MLflow cannot be reached"]
    assert len(causes) == 1
    apply(bridge.session, causes[0].fix_statements)
    bridge.session.use_role("ACCOUNTADMIN")
    assert wrong(bridge) == []


def test_a_lost_integration_is_named_with_its_fix(
    snowflake: Snowflake, session: Session, write_config: Any
) -> None:
    """The printed statement creates a dropped integration again; its cloud must then trust the new one."""
    setup = load(write_config("aws"))
    apply(session, statements(setup))
    session.use_role("ACCOUNTADMIN")
    snowflake.trust("MLFLOW_API")
    session.sql('DROP INTEGRATION "MLFLOW_API"').collect()
    first, *_ = [finding for finding in check(session, setup) if not finding.ok]
    assert "api integration MLFLOW_API is missing" in first.what
    apply(session, first.fix_statements)
    [last] = [finding for finding in check(session, setup) if not finding.ok]
    assert "the cloud does not trust this API integration" in last.fix
    snowflake.trust("MLFLOW_API")
    assert [finding for finding in check(session, setup) if not finding.ok] == []


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault(status=503, body="<html>down</html>", content_type="text/html"), "is down"),
        (Fault(status=429, body="{}"), "responded 429: too many requests"),
        (Fault(status=403, body='{"message": "Forbidden"}'), "responded 403"),
        (
            Fault(status=200, body="<html><h1>Welcome</h1></html>", content_type="text/html"),
            "responded with a page instead of MLflow's JSON",
        ),
        (Fault(delay=2), "did not respond in time"),
        (Fault(cut=True), "cannot be reached"),
    ],
)
def test_a_failing_gateway_is_one_sentence(bridge: Any, fault: Fault, sentence: str) -> None:
    """A gateway that is down, slow or returns HTML is one line that states it."""
    gateway, policy = bridge.stand_in.gateways["aws"], bridge.stand_in.policy
    patience = policy.timeout, policy.retry_seconds
    policy.timeout, policy.retry_seconds = 0.5, 0.1
    gateway.faults.inject(fault)
    try:
        [finding] = wrong(bridge)
    finally:
        gateway.faults.clear()
        policy.timeout, policy.retry_seconds = patience
    assert finding.what == "MLflow cannot be reached"
    assert sentence in finding.fix
    assert "\n" not in finding.fix
    assert wrong(bridge) == []


EVIL = (
    "it's",
    "'; DROP SCHEMA demo; --",
    'a" ; DROP ROLE x; --',
    "$$",
    "back\\slash",
    "select",
)


def every_name(session: Session) -> set[str]:
    """Return the names of all objects that could have been created or dropped, except roles."""
    shows = ("SCHEMAS IN DATABASE DEMO", "USER FUNCTIONS", "STAGES", "INTEGRATIONS")
    return {row["name"] for show in shows for row in session.sql(f"SHOW {show}").collect()}


@pytest.mark.parametrize("evil", EVIL)
def test_hostile_names_are_just_names(
    snowflake: Snowflake, session: Session, write_config: Any, evil: str, tmp_path: Path
) -> None:
    """Functions, a stage, roles and an integration with hostile names are created, work, and are dropped."""
    config = yaml.safe_load(write_config("azure").read_text())
    quoted = evil.replace('"', '""')
    section = config["snowflake"]["mlflow"]
    section["functions"] = {key: f'demo.demo."{key} {quoted}"' for key in section["functions"]}
    section["stage"] = f'@demo.demo."stage {quoted}"'
    section["roles"] = {"owner": f'"owner {quoted}"', "caller": f'"caller {quoted}"'}
    section["gateway"]["integration"] = f'"api {quoted}"'
    path = tmp_path / "hostile.yml"
    path.write_text(yaml.safe_dump(config, allow_unicode=True))
    setup = load(path)
    untouched = every_name(session)
    apply(session, statements(setup))
    session.use_role("ACCOUNTADMIN")
    snowflake.trust(f"api {evil}")
    assert [finding for finding in check(session, setup) if not finding.ok] == []
    assert Client(session, setup.functions).experiment("none") is None
    apply(session, drops(setup, with_stages=True, with_integrations=True))
    session.use_role("ACCOUNTADMIN")
    assert every_name(session) == untouched


def test_many_rows_are_few_requests(bridge: Any, mlflow_server: MlflowServer) -> None:
    """2,500 metrics of a table become a few requests, each row gets a reply, and none is lost."""
    session = bridge.session
    client = Client(session, bridge.setup.functions)
    run_id = client.create_run(client.ensure_experiment("many"))["info"]["run_id"]
    session.sql(
        "CREATE OR REPLACE TEMPORARY TABLE points AS SELECT seq4() AS n "
        "FROM TABLE(GENERATOR(ROWCOUNT => 2500))"
    ).collect()
    before = len(bridge.stand_in.deliveries)
    rows = session.sql(
        "SELECT demo.demo.mlflow_run_log_metrics(?, 'loss', n / 4, 1000000 + n, n) FROM points",
        params=[run_id],
    ).collect()
    assert len(rows) == 2500
    # Snowflake decides which rows share a request, up to the limit that the function sets.
    sizes = [delivery.rows for delivery in bridge.stand_in.deliveries[before:]]
    assert sum(sizes) == 2500
    assert max(sizes) == 1000
    assert len(sizes) <= 5
    history = bridge.mlflow.get_metric_history(run_id, "loss")
    assert {metric.step: metric.value for metric in history} == {n: n / 4 for n in range(2500)}


def test_a_statement_of_two_runs_is_refused(bridge: Any) -> None:
    """Rows of two runs in one batch are refused, and neither run gets a value."""
    client = Client(bridge.session, bridge.setup.functions)
    experiment_id = client.ensure_experiment("two-runs")
    runs = [client.create_run(experiment_id)["info"]["run_id"] for _ in range(2)]
    with pytest.raises(Exception, match="the rows of one statement must belong to one run"):
        bridge.session.sql(
            "SELECT demo.demo.mlflow_run_log_metrics(column1, 'k', 1, 1, 1) FROM VALUES (?), (?)",
            params=runs,
        ).collect()
    assert [bridge.mlflow.get_run(run).data.metrics for run in runs] == [{}, {}]
