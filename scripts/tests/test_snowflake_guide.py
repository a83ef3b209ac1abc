"""The guide to Snowflake marks as *shown* only cells that a test on the stand-in shows."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "snowflake.md"
WORDS = {"shown", "documented", "untried", "not possible"}
INTEGRATION = "tests-integration/snowflake"
SANDBOX = "packages/sandbox/tests/snowflake"

SHOWN: dict[tuple[str, int], tuple[str, str]] = {
    ("a procedure with owner's rights", 1): (
        f"{INTEGRATION}/test_store_procedure.py",
        "test_external_access",
    ),
    ("a procedure with owner's rights", 2): (
        f"{INTEGRATION}/test_store_procedure.py",
        "test_without_a_network",
    ),
    # The procedures of its tasks have caller's rights.
    ("a procedure with caller's rights", 1): (
        f"{INTEGRATION}/test_starter_project.py",
        "test_unchanged_it_runs_as_tasks",
    ),
    ("a procedure with caller's rights", 2): (
        f"{INTEGRATION}/test_store_procedure.py",
        "test_an_account_that_refuses_to_copy_files",
    ),
    ("a Kedro pipeline as tasks, the starter's project untouched", 1): (
        f"{INTEGRATION}/test_starter_project.py",
        "test_unchanged_it_runs_as_tasks",
    ),
    ("a Kedro pipeline as tasks, the starter's project untouched", 2): (
        f"{INTEGRATION}/test_starter_project.py",
        "test_unchanged_it_runs_as_tasks",
    ),
    ("a process in a container: a service, an ML Job", 1): (
        f"{INTEGRATION}/test_store_procedure.py",
        "test_in_a_container",
    ),
    ("a process in a container: a service, an ML Job", 2): (
        f"{INTEGRATION}/test_store_procedure.py",
        "test_in_a_container",
    ),
    ("Streamlit on a warehouse", 1): (
        f"{INTEGRATION}/test_store_procedure.py",
        "test_in_streamlit",
    ),
    ("Streamlit on a warehouse", 2): (
        f"{INTEGRATION}/test_store_procedure.py",
        "test_in_streamlit",
    ),
    ("plain SQL", 2): (
        f"{INTEGRATION}/test_generator_bridge.py",
        "test_the_sql_of_the_specifications_users",
    ),
    ("the SQL of external access: applied, checked, dropped", 1): (
        f"{INTEGRATION}/test_generator_bridge.py",
        "test_external_access_alone",
    ),
    ("the SQL of external functions: applied, checked, dropped", 1): (
        f"{INTEGRATION}/test_generator_bridge.py",
        "test_one_command_after_another",
    ),
    ("batches, duplicate deliveries, lost replies", 1): (
        f"{INTEGRATION}/test_client_bridge.py",
        "test_a_lost_reply_makes_one_run",
    ),
    ("translators in two JavaScript engines", 1): (
        "packages/snowflake/tests/test_translators.py",
        "test_texts_arrive_byte_for_byte",
    ),
    ("the five functions alone", 1): (
        f"{INTEGRATION}/test_five_functions.py",
        "test_plain_tracking_needs_no_other_function",
    ),
    ("artifacts and models, read back from MLflow", 1): (
        f"{INTEGRATION}/test_store_artifacts.py",
        "test_a_model_is_loaded_inside_and_outside",
    ),
    ("artifacts where COPY FILES is refused with owner's rights: `EXECUTE AS CALLER`", 1): (
        f"{INTEGRATION}/test_store_procedure.py",
        "test_an_account_that_refuses_to_copy_files",
    ),
    ("credentials of datasets by a stage and by a secret", 1): (
        f"{INTEGRATION}/test_pipeline_data.py",
        "test_frames_tables_and_files_are_passed_on",
    ),
    ("Snowpark DataFrames between nodes", 1): (
        f"{INTEGRATION}/test_pipeline_data.py",
        "test_frames_tables_and_files_are_passed_on",
    ),
    ("key pairs, tokens, OAuth, passwords", 1): (
        f"{INTEGRATION}/test_signing_in.py",
        "test_signing_in",
    ),
    ("the definitions' paths, with a gateway that allows no other", 1): (
        f"{INTEGRATION}/test_generator_bridge.py",
        "test_the_gateways_definition_allows_every_call",
    ),
    ("a gateway that renames `Authorization`", 1): (
        f"{SANDBOX}/test_external_functions.py",
        "test_amazon_may_remap_an_injected_authorization",
    ),
    ("trial accounts: external access is refused (509009)", 1): (
        f"{SANDBOX}/test_ddl.py",
        "test_external_access_is_refused_on_a_trial_account",
    ),
}
"""The test for each cell marked *shown*, by its row and column."""


def cells() -> dict[tuple[str, int], str]:
    """Return the cells of both tables of the section, by row and column."""
    section = GUIDE.read_text(encoding="utf-8").partition("## How it was tested")[2]
    found: dict[tuple[str, int], str] = {}
    for line in section.splitlines():
        if re.match(r"\|(?!---| ?your code| what \|)", line):
            row, *columns = [cell.strip() for cell in line.strip("|").split("|")]
            found |= {(row, number): cell for number, cell in enumerate(columns, 1)}
    return found


def test_each_cell_has_a_known_state() -> None:
    """A cell has one of four words, which the section explains."""
    assert set(cells().values()) == WORDS


def test_each_shown_cell_has_its_test() -> None:
    """The guide marks as shown exactly the claims that a test shows."""
    shown = {place for place, cell in cells().items() if cell == "shown"}
    assert shown == SHOWN.keys()


@pytest.mark.parametrize(("file", "name"), sorted(set(SHOWN.values())))
def test_each_of_these_tests_exists(file: str, name: str) -> None:
    """If a test is renamed or removed, its cell must change as well."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert name in functions
