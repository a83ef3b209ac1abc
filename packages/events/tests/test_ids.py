"""The map of IDs survives kills, and other processes read it."""

from pathlib import Path

from mlflow_connections_events.ids import FILE, IdMap

RUN, OTHER = "a" * 32, "b" * 32


def test_pairs_survive_the_process(tmp_path: Path) -> None:
    """A later map of the same folder knows them; the last pair of an ID counts."""
    first = IdMap(tmp_path / "state")
    first.put(RUN, OTHER)
    first.put(RUN, "c" * 32)
    assert IdMap(tmp_path / "state").get(RUN) == "c" * 32
    assert IdMap(tmp_path / "state").get("unknown") is None


def test_another_process_reads_appended_pairs(tmp_path: Path) -> None:
    """`refresh` reads only new pairs."""
    reader, writer = IdMap(tmp_path), IdMap(tmp_path)
    writer.put(RUN, OTHER)
    assert reader.get(RUN) is None
    reader.refresh()
    assert reader.get(RUN) == OTHER


def test_a_torn_line_costs_nothing_else(tmp_path: Path) -> None:
    """A process that was killed while writing leaves half a line; later pairs are read."""
    IdMap(tmp_path).put(RUN, OTHER)
    with (tmp_path / FILE).open("a") as file:
        file.write('["torn", "')
    IdMap(tmp_path).put("after", "it")
    ids = IdMap(tmp_path)
    assert dict(ids.pairs()) == {RUN: OTHER, "after": "it"}


def test_ids_in_texts_are_replaced(tmp_path: Path) -> None:
    """A run's ID is replaced everywhere; short IDs may mean something else and stay."""
    ids = IdMap(tmp_path)
    ids.put(RUN, OTHER)
    ids.put("7", "8")
    assert ids.replaced(f"runs:/{RUN}/model 7") == f"runs:/{OTHER}/model 7"
