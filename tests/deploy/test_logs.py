"""What was logged since a moment, and the ends of logs."""

from pathlib import Path

from fedseg.deploy.logs import LogMark, last_lines


def test_codes_of_earlier_starts_do_not_count(tmp_path: Path) -> None:
    log = tmp_path / "network.log"
    log.write_text("x refused code=E709 what=old\n", "utf-8")
    mark = LogMark.now(tmp_path)
    with log.open("a", encoding="utf-8") as file:
        file.write("x code=E603 why=a\nx code=E603\nxcode=E604\nE605\n")
    (tmp_path / "data.log").write_text("y code=E706\n", "utf-8")

    said = mark.codes([log, tmp_path / "data.log", tmp_path / "missing.log"])
    assert said == "network.log says E603; data.log says E706"


def test_a_log_that_was_rotated_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "network.log"
    log.write_text("long " * 100, "utf-8")
    mark = LogMark.now(tmp_path)
    log.write_text("code=E603\n", "utf-8")

    assert mark.since(log) == "code=E603\n"
    assert LogMark.now(tmp_path).codes([log]) == "the logs name no error"


def test_the_last_lines_are_the_last(tmp_path: Path) -> None:
    log = tmp_path / "data.log"
    assert last_lines(log, 3) == []
    log.write_bytes(b"1\n2\n\xff\n4")
    assert last_lines(log, 3) == ["2", "\ufffd", "4"]
