"""The options of the command line, the configurations that have them as fields, and their errors."""

import argparse
import dataclasses
import json

import pytest

from steerlens_fast.cli import main
from steerlens_fast.cli.evaluate import _add_options as add_evaluate_options
from steerlens_fast.cli.morph import _add_options as add_morph_options
from steerlens_fast.cli.options import given_fields
from steerlens_fast.data.config import DataConfig
from steerlens_fast.errors import USAGE, JobError
from steerlens_fast.evaluate.config import EvaluationConfig
from steerlens_fast.io.base_config import BaseConfig, inherited_option, option
from steerlens_fast.job.config import JobConfig, RunOptions
from steerlens_fast.job.plan import FORMAT_VERSION, Plan
from steerlens_fast.lens.config import LensConfig
from steerlens_fast.models.config import ModelConfig


def parser_of(add_options) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(argument_default=argparse.SUPPRESS)
    add_options(parser)
    return parser


@pytest.mark.parametrize(
    "add_options, configs",
    [(add_morph_options, (JobConfig, RunOptions)), (add_evaluate_options, (EvaluationConfig,))],
    ids=["morph", "evaluate"],
)
def test_every_field_has_one_option_with_its_choices(add_options, configs):
    actions = {action.dest: action for action in parser_of(add_options)._actions}
    for field in (field for config in configs for field in dataclasses.fields(config)):
        action = actions[field.name]
        assert len(action.option_strings) == 1 and action.help
        assert action.choices == field.metadata.get("choices")


@pytest.mark.parametrize("config", [JobConfig, EvaluationConfig])
def test_jobs_and_evaluations_have_the_options_of_data_model_and_lens(config):
    names = {field.name for field in dataclasses.fields(config)}
    for part in (DataConfig, ModelConfig, LensConfig):
        assert {field.name for field in dataclasses.fields(part)} <= names


def test_options_that_are_not_given_are_left_out():
    arguments = parser_of(add_morph_options).parse_args(["--out", "o", "--size", "24x32", "--trust-checkpoint"])
    assert given_fields(JobConfig, arguments) == {"size": [24, 32], "trust_checkpoint": True}
    assert given_fields(RunOptions, arguments) == {}


def test_defaults_are_in_the_help_text():
    text = " ".join(parser_of(add_morph_options).format_help().split())
    assert "how coefficients and gradient become a step (default: complex)" in text
    assert "a percentage allows at least 10 items (default: 10%)" in text
    assert "become a step (default: polar)" in " ".join(parser_of(add_evaluate_options).format_help().split())


def test_choices_and_minimums_are_checked_by_the_configuration():
    with pytest.raises(JobError, match=r"rule must be one of \('complex', 'polar'\), got 'polr'"):
        JobConfig("images/", "timm:resnet18", rule="polr")
    with pytest.raises(JobError, match="limit must be .*got 0"):
        JobConfig("images/", "timm:resnet18", limit=0)


def test_inherited_option_keeps_its_metadata():
    @dataclasses.dataclass(frozen=True)
    class Changed(LensConfig, BaseConfig):
        rule: str = inherited_option(LensConfig, "rule", default="polar")
        own: int = option(1, minimum=1, help="another")

    assert Changed().rule == "polar" and Changed().arguments_of("lens")["rule"] == "polar"
    assert "own" not in Changed().arguments_of("lens")


@pytest.mark.parametrize("version", [None, 1, FORMAT_VERSION + 1])  # None: not in the file, which means 1
def test_folder_of_another_format_version_raises(tmp_path, version):
    values = {} if version is None else {"format_version": version}
    (tmp_path / "plan.json").write_text(json.dumps({"items": 1, "dropped": 0, "listing_sha256": "0", **values}))
    with pytest.raises(JobError, match=f"must have format version {FORMAT_VERSION}, got {version or 1}") as raised:
        Plan.read(tmp_path)
    assert raised.value.code == USAGE


def test_options_and_configurations_reject_nan_and_infinity(capsys):
    parser = parser_of(add_morph_options)
    for argv in (["--factors", "0,nan"], ["--pyramid", "order=inf"]):
        with pytest.raises(SystemExit):
            parser.parse_args(argv)
        assert f"argument {argv[0]}: expected" in capsys.readouterr().err
    with pytest.raises(JobError, match=r"^factors must be finite, got \[0, nan\]"):
        JobConfig.from_dict({"data": "a", "model": "b", "factors": [0, float("nan")]})


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["photos"], "unrecognized arguments: photos; did you mean --data photos?"),
        (["--l2", "3"], "unrecognized arguments: --l2 3; did you mean '--max-l2'?"),
        (["--qqq"], "unrecognized arguments: --qqq"),
        # --driver is the name of --model in the command evaluate
        (["--driver", "a:b"], "unrecognized arguments: --driver a:b; did you mean '--model'?"),
        (["--data", "d", "--target", "tiger", "cat"], "arguments: cat; did you mean --target 'tiger cat'?"),
        (["--data", "d", "--factors", "0", "1", "2"], "arguments: 1 2; did you mean --factors 0,1,2?"),
        (["--data", "d", "--resume", "cat"], "unrecognized arguments: cat"),
        (["--max-l2", "x"], "argument --max-l2: expected a number of at least 0, got 'x'"),
        (["--data", "d"], "the following arguments are required: --out"),
    ],
)
def test_errors_are_one_line_and_name_the_help_of_the_subcommand(arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        main(["morph", *([] if "required" in message else ["--out", "o"]), *arguments])
    line, hint = capsys.readouterr().err.splitlines()
    assert error.value.code == USAGE
    assert line.startswith("steerlens-fast morph: error: ") and line.endswith(message)
    assert hint == 'see "steerlens-fast morph --help"'
