# shellcheck shell=bash
# Sourced by the recipes, from the root of the repository: what the published commands share. A flag given later wins.

# train_tsn DATASET MODALITY [flags]: main.py with the flags of every published recipe.
train_tsn() {
    local dataset=$1 modality=$2
    shift 2
    exec "${PYTHON:-python}" main.py "$dataset" "$modality" --gd 20 --consensus_type=avg --eval-freq=1 -j 16 "$@"
}

# train_tsm DATASET MODALITY [flags]: the same with the published shift.
train_tsm() {
    local dataset=$1 modality=$2
    shift 2
    train_tsn "$dataset" "$modality" --shift --shift_div=8 --shift_place=blockres "$@"
}

# test_models DATASET [flags]
test_models() {
    exec "${PYTHON:-python}" test_models.py "$@"
}

# released NAME: the path where tools/download_weights.py stores the weights NAME.
released() {
    echo "${TSM_CACHE:-$HOME/.cache/tsm}/$1.pth"
}
