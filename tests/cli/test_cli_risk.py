"""`withstand risk` from the command line."""

from commands import Command

QUESTION = ("risk", "digits-cnn", "--data", "digits", "--limit", "10")


def test_it_tells_what_is_reached_and_that_nothing_is_certified(withstand: Command) -> None:
    done = withstand(*QUESTION, "--rho", "0.01,0.1", "--gamma", "5")
    assert done.code == 0, done.err
    assert "reached" in done.out
    assert "Nothing can be certified: The operator 'relu'" in done.out


def test_json_has_a_bound_for_each_cost(withstand: Command) -> None:
    told = withstand(*QUESTION, "--rho", "0,0.1", "--gamma", "5,10", "--json").json
    assert [bound["rho"] for bound in told["bounds"]] == [0, 0.1]
    assert told["bounds"][0]["reached"] == told["clean"] < told["bounds"][1]["reached"]
    assert [one["gamma"] for one in told["surrogates"]] == [5, 10]


def test_bad_numbers_are_one_sentence(withstand: Command) -> None:
    for options in (["--rho", "a,b"], ["--rho", "-1"], ["--rho", "0.1", "--gamma", "0"]):
        done = withstand(*QUESTION, *options)
        assert done.code == 2
        assert len(done.err.strip().splitlines()) == 1
