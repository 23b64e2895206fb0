"""opts.py: published spellings and defaults, limits of every number, flags that belong together."""
import pytest

import opts
from ops.common.errors import UserError

HUGE = "9" * 23
TRAIN = ["somethingv2", "RGB"]
TEST = ["somethingv2", "--weights", "a.pth,b.pth"]
LIMITED = {  # flag -> a value outside its range, and what to choose instead
    "--num_segments": ("0", "1 to 10000 frames per clip"), "--dropout": ("1", "0 (none) to below 1"),
    "--shift_div": ("0", "1 or more"), "--epochs": ("0", "1 or more"), "--batch-size": ("-4", "1 or more"),
    "--lr": ("0", "a number above 0"), "--lr_steps": ("-1", "0 or more"), "--momentum": ("1", "0 to below 1"),
    "--weight-decay": ("-1", "0 to 1"), "--clip-gradient": ("0", "a number above 0"),
    "--seed": ("-1", "0 to 9223372036854775807"), "--mixup": ("-1", "an alpha above 0"),
    "--cutmix": ("-1", "an alpha above 0"),
    "--random_erasing": ("1.5", "a probability, 0 (never) to 1"), "--print-freq": ("0", "1 or more"),
    "--eval-freq": ("0", "1 or more"), "--workers": ("-1", "0 to 1024"), "--start-epoch": ("-1", "0 or more"),
    "--input_size": ("31", "32 to 10000 pixels"), "--img_feature_dim": ("0", "1 or more")}
LIMITED_TEST = {
    "--test_segments": ("8,0", "1 to 10000 frames per clip"), "--coeff": ("1,inf", "finite numbers"),
    "--shift_div": ("8,0", "1 or more"), "--max_num": ("0", "1 or more videos, or -1 for all"),
    "--online_stride": ("0", "1 (every frame) or more"), "--batch_size": ("0", "1 or more"),
    "--workers": ("-1", "0 to 1024"), "--input_size": ("31", "32 to 10000 pixels")}
CHOICES = ("--arch", "--loss_type", "--shift_direction", "--non_local_type", "--lr_type", "--flip", "--augment",
           "--data_format")


def refusal(parse, argv):
    with pytest.raises(UserError) as info:
        parse(argv)
    return str(info.value)


@pytest.mark.parametrize("flag", LIMITED)
def test_numbers_of_main_have_limits(flag):
    value, choose = LIMITED[flag]
    assert f": choose {choose}" in refusal(opts.parse_train, [*TRAIN, flag, value])
    assert refusal(opts.parse_train, [*TRAIN, flag, value]).startswith(f"{flag} {value}")
    whole = flag not in ("--lr", "--lr_steps", "--momentum", "--weight-decay", "--clip-gradient", "--mixup", "--cutmix")
    for text in (HUGE,) if whole else ("nan", "inf"):
        assert refusal(opts.parse_train, [*TRAIN, flag, text]).startswith(f"{flag} ")


@pytest.mark.parametrize("flag", LIMITED_TEST)
def test_numbers_of_test_models_have_limits(flag):
    value, choose = LIMITED_TEST[flag]
    message = refusal(opts.parse_test, [*TEST, flag, value])
    assert message.startswith(f"{flag} {value.split(',')[-1]}: choose {choose}")
    if flag != "--coeff":
        assert refusal(opts.parse_test, [*TEST, flag, HUGE]).startswith(f"{flag} {HUGE}: choose ")


def test_every_number_has_limits():
    for parser in (opts.train_parser(), opts.test_parser()):
        assert not [action.dest for action in parser._actions if action.type in (int, float)]


@pytest.mark.parametrize("flag", CHOICES)
def test_choices_are_checked_by_the_parser(flag):
    assert refusal(opts.parse_train, [*TRAIN, flag, "foo"]).startswith(f"{flag} 'foo': choose ")


@pytest.mark.parametrize("text", ["a.pth,", ",a.pth", "a.pth,,b.pth", ""])
def test_an_empty_name_among_the_checkpoints_is_refused(text):
    assert refusal(opts.parse_test, ["somethingv2", "--weights", text]) == (
        f"--weights {text!r}: one of its names is empty: write them with single commas between them, A.pth,B.pth")


def test_published_spellings_and_defaults():
    args = opts.parse_train(TRAIN)
    assert (args.epochs, args.batch_size, args.lr, args.lr_type, args.lr_steps) == (120, 128, 0.001, "step", [50, 100])
    assert (args.momentum, args.weight_decay, args.clip_gradient, args.no_partialbn) == (0.9, 5e-4, None, False)
    assert (args.print_freq, args.eval_freq, args.workers, args.start_epoch) == (20, 5, 8, 0)
    assert (args.arch, args.num_segments, args.consensus_type, args.dropout) == ("resnet50", 8, "avg", 0.5)
    assert (args.root_log, args.root_model, args.shift_div, args.shift_place) == ("log", "checkpoint", 8, None)
    args = opts.parse_train([*TRAIN, *"--do 0.8 -b 4 --learning-rate 0.1 --wd 0 --gd 20 --npb -p 1 -ef 2 -j 3".split(),
                             "--lr_steps", "1", "2.5"])
    assert (args.dropout, args.batch_size, args.lr, args.weight_decay, args.clip_gradient) == (0.8, 4, 0.1, 0, 20)
    assert (args.no_partialbn, args.print_freq, args.eval_freq, args.workers, args.lr_steps) == (True, 1, 2, 3, [1, 2.5])


def test_without_a_number_there_are_at_most_as_many_workers_as_cores(monkeypatch, capsys):
    for parse, words in ((opts.parse_train, TRAIN), (opts.parse_test, TEST)):
        for cores, started in ((2, 2), (64, 8)):
            monkeypatch.setattr(opts, "cores", lambda cores=cores: cores)
            args = parse(words)
            assert (args.workers, args.loaders) == (8, started)
        monkeypatch.setattr(opts, "cores", lambda: 2)
        for named in (0, 8, 16):
            args = parse([*words, "-j", str(named)])
            assert args.workers == args.loaders == named
    assert "workers" not in opts.settings(opts.parse_train(TRAIN))  # a run repeated elsewhere has as many as fit there
    assert opts.settings(opts.parse_train([*TRAIN, "-j", "8"]))["workers"] == 8
    for parser in (opts.train_parser(), opts.test_parser()):
        parser.print_help()
        assert "(default: 8, or one per core if there are fewer)" in " ".join(capsys.readouterr().out.split())


def test_a_run_without_a_seed_has_seed_0_and_fast_convolutions():
    assert (opts.parse_train(TRAIN).seed, opts.parse_train(TRAIN).repeatable) == (0, False)
    args = opts.parse_train([*TRAIN, "--seed", "0"])
    assert (args.seed, args.repeatable) == (0, True)


@pytest.mark.parametrize("flags", [["--conf", "x.yaml"], ["--conf=x.yaml"], ["--rec", "modern"]])
def test_flags_that_are_read_first_are_not_abbreviated(flags, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text("lr: 0.5\n")
    assert refusal(opts.parse_train, [*TRAIN, *flags]).endswith("write their names in full")


def test_the_save_frequency_is_checked_at_once():
    assert refusal(opts.parse_train, [*TRAIN, "--save_freq", "10h"]).startswith("save_freq '10h': choose a number of steps")


def test_debug_stops_after_one_epoch_unless_epochs_are_given():
    assert opts.parse_train([*TRAIN, "--debug"]).run_epochs == 1
    assert opts.parse_train([*TRAIN, "--debug"]).epochs == 120
    assert opts.parse_train([*TRAIN, "--debug", "--epochs", "3"]).run_epochs is None


def test_flags_without_effect_are_warned_about(caplog):
    opts.parse_train([*TRAIN, "--shift_div", "4", "--inplace", "--non_local_type", "gaussian", "--lr_type", "cos",
                      "--lr_steps", "3", "--resume", "x", "--start-epoch", "2", "--k", "1"])
    assert caplog.messages == [
        "warning: --k never did anything: ignored",
        "warning: --shift_div has no effect: it needs --shift", "warning: --inplace has no effect: it needs --shift",
        "warning: --non_local_type has no effect: it needs --non_local",
        "warning: --lr_steps has no effect: --lr_type cos has no steps",
        "warning: --start-epoch has no effect: --resume continues after the checkpoint's own epoch"]
    caplog.clear()
    opts.parse_train([*TRAIN, "--resume", "auto", "--start-epoch", "2"])  # auto may find nothing to resume
    assert not caplog.messages


@pytest.mark.parametrize("more, words", [
    (["--nesterov", "--momentum", "0"], "--nesterov needs a --momentum above 0"),
    (["--class_weights", "auto", "--sampler", "balanced"], "both make up for rare classes")])
def test_learning_flags_that_exclude_each_other(more, words):
    assert words in refusal(opts.parse_train, [*TRAIN, *more])


def test_decay_of_norms_cannot_be_switched_off_again(caplog):
    caplog.set_level("INFO")
    opts.parse_train([*TRAIN, "--no_norm_decay", "--label_smoothing", "0.2"])
    assert caplog.messages[0] == "warning: --label_smoothing has no effect: it needs --loss_type smooth"
    assert caplog.messages[1].startswith("--no_norm_decay changes nothing: normalization layers and biases have no")


def test_precise_statistics_need_batch_norms_that_train(caplog):
    for recipe in ([], ["--recipe", "modern"]):
        assert opts.parse_train([*TRAIN, *recipe, "--precise_bn", "9", "--npb"]).precise_bn == 9
        assert not caplog.messages
        assert opts.parse_train([*TRAIN, *recipe, "--precise_bn", "9"]).precise_bn == 0
        assert "--precise_bn has no effect: without --no_partialbn" in caplog.messages[-1]
        caplog.clear()
    assert opts.parse_train([*TRAIN, "--recipe", "modern"]).precise_bn == 0 and not caplog.messages


def test_an_evaluation_has_no_teacher(caplog):
    opts.parse_train([*TRAIN, "--evaluate", "--resume", "x", "--teacher", "t.pth", "--distill_weight", "0.3",
                      "--train_url", "s3://bucket/runs", "--track", "wandb"])
    assert caplog.messages == [f"warning: --{name} has no effect: --evaluate trains nothing"
                               for name in ("teacher", "distill_weight", "track", "train_url")]
    caplog.clear()
    opts.parse_train([*TRAIN, "--evaluate", "--resume", "auto", "--train_url", "s3://bucket/runs"])
    assert not caplog.messages, "the run is fetched from there"


@pytest.mark.parametrize("recipe", ["published", "modern"])
def test_labels_without_a_share_in_the_loss_have_no_options(recipe, caplog):
    alone = [*TRAIN, "--recipe", recipe, "--teacher", "t.pth", "--distill_weight", "1"]
    opts.parse_train(alone)
    assert not caplog.messages
    opts.parse_train([*alone, "--loss_type", "smooth", "--label_smoothing", "0.2", "--class_weights", "auto"])
    flags = ["loss_type"] * (recipe == "published") + ["label_smoothing", "class_weights"]
    assert caplog.messages == [
        f"warning: --{flag} has no effect: with --distill_weight 1 the labels have no share in the loss" for flag in flags]
    caplog.clear()
    opts.parse_train([*TRAIN, "--teacher", "t.pth", "--distill_weight", "0.9", "--class_weights", "auto"])
    assert not caplog.messages


def test_flow_takes_no_color_augmentation():
    message = refusal(opts.parse_train, ["something", "Flow", "--augment", "randaug"])
    assert "augment randaug" in message and "Flow" in message


def test_one_value_serves_all_checkpoints():
    args = opts.parse_test([*TEST, "--test_segments", "8", "--coeff", "1,1.5", "--arch", "resnet18,mobilenetv2"])
    assert (args.weights, args.test_segments, args.coeff) == (["a.pth", "b.pth"], [8, 8], [1, 1.5])
    assert (args.arch, args.modality, args.test_list) == (["resnet18", "mobilenetv2"], [None, None], ["", ""])
    assert "--coeff has 3 values for 2 checkpoints" in refusal(opts.parse_test, [*TEST, "--coeff", "1,2,3"])


@pytest.mark.parametrize("more, words", [
    (["--protocol", "accurate", "--twice_sample"], "exclude each other"),
    (["--online_stride", "2"], "no effect without --online"),
    (["--online"], "streams one view of one checkpoint")])
def test_flags_that_exclude_each_other(more, words):
    assert words in refusal(opts.parse_test, [*TEST, *more])
