"""metrics.jsonl after kills and rewinds."""

import json

from snnkd.runs.metrics import NAME, append_metrics, read_metrics, rewind_metrics


def fill(folder, epochs):
    for epoch in range(1, epochs + 1):
        append_metrics(folder, {"epoch": epoch, "loss": 1 / 3})


def test_a_line_per_epoch(tmp_path):
    assert read_metrics(tmp_path) == []
    fill(tmp_path, 2)
    assert read_metrics(tmp_path) == [{"epoch": 1, "loss": 0.333333}, {"epoch": 2, "loss": 0.333333}]
    assert len((tmp_path / NAME).read_text().splitlines()) == 2


def test_a_torn_last_line_is_dropped(tmp_path):
    fill(tmp_path, 3)
    raw = (tmp_path / NAME).read_bytes()
    for lost in (2, 5, 12, 20):
        (tmp_path / NAME).write_bytes(raw[:-lost])
        assert [row["epoch"] for row in read_metrics(tmp_path)] == [1, 2]
    (tmp_path / NAME).write_bytes(raw + b"\xff\xfe\n7\n")
    assert len(read_metrics(tmp_path)) == 3


def test_rewinding_keeps_the_epochs_of_the_checkpoint(tmp_path):
    fill(tmp_path, 5)
    rewind_metrics(tmp_path, 3)
    assert [row["epoch"] for row in read_metrics(tmp_path)] == [1, 2, 3]
    append_metrics(tmp_path, {"epoch": 4})
    assert [row["epoch"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4]
    rewind_metrics(tmp_path, 0)
    assert read_metrics(tmp_path) == []


def test_rewinding_takes_a_torn_line_away_so_that_the_next_one_is_whole(tmp_path):
    fill(tmp_path, 2)
    with (tmp_path / NAME).open("a") as file:
        file.write('{"epoch": 3, "lo')
    rewind_metrics(tmp_path, 2)
    append_metrics(tmp_path, {"epoch": 3})
    assert [json.loads(line)["epoch"] for line in (tmp_path / NAME).read_text().splitlines()] == [1, 2, 3]


def test_small_numbers_stay(tmp_path):
    append_metrics(tmp_path, {"epoch": 1, "lr": 1e-7, "loss": 1.23456789e-12, "seconds": 123456.7})
    assert read_metrics(tmp_path) == [{"epoch": 1, "lr": 1e-7, "loss": 1.23457e-12, "seconds": 123457.0}]
