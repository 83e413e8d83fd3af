"""When two programs are the same, and which are run a second time."""

from dartune.programs.canonical import normal_form, runs_twice
from dartune.referee.referee import key

NEAREST = "def select_next_node(c, d, u, m):\n    return u[0]\n"


def test_layout_comments_and_docstrings_do_not_make_another_program() -> None:
    plain = "def f(a):\n    return a + 1\n"
    assert normal_form('def f(a):\n    """Adds."""\n    return (a  +  1)  # one\n') == normal_form(plain)
    assert normal_form("def f(a):\n    return a + 2\n") != normal_form(plain)


def test_docstrings_count_in_a_program_that_reads_its_own_text() -> None:
    plain = 'def f():\n    """Adds."""\n    return f.__doc__\n'
    assert key(plain) != key(plain.replace("Adds", "Adds up"))
    assert key(plain.replace("f.__doc__", "1")) == key(plain.replace("f.__doc__", "1").replace("Adds", "Adds up"))


def test_every_hundredth_of_the_other_programs_runs_twice() -> None:
    programs = [f"{NEAREST}\n\nNUMBER = {i}\n" for i in range(3000)]
    share = sum(runs_twice(program, key(program)) for program in programs) / len(programs)
    assert 0.005 < share < 0.02
    assert runs_twice("import time", "f" * 32)


def test_clocks_make_a_program_run_twice_but_not_an_argument_named_times() -> None:
    for program in ("import os\nx = os.times()", "from posix import times as t", "import random\nx = random._os.times"):
        assert runs_twice(program, "f" * 32)
    assert not runs_twice("def select_next_job(available, position, machines, times):\n    return 0", "f" * 32)
