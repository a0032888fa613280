from distkeras.cli.tables import aligned, shortened


def test_cells_stand_below_one_another():
    assert aligned([("a", "b", "c"), ("long", "", "d")], indent=1) == [" a     b  c", " long     d"]


def test_the_last_cell_takes_what_room_it_needs():
    assert aligned([("a", "x" * 90), ("b", "")]) == ["a  " + "x" * 90, "b"]


def test_long_text_is_shortened_to_the_width():
    assert (shortened("abcdef", 6), shortened("abcdefg", 6)) == ("abcdef", "abc...")
