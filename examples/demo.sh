#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The demo behind `./dev demo`: three adapters, one base model, every step shown.
#
# usage: demo.sh LORAPACK TINYLM DEMO_MODEL OUT
set -euo pipefail
lorapack=$1
tinylm=$2
model=$3
out=$4

bold='' plain=''
[ ! -t 1 ] || bold=$'\033[1m' plain=$'\033[0m'

# tell HEADING [LINE...]
tell() {
    printf '\n%s%s%s\n' "$bold" "$1" "$plain"
    [ $# = 1 ] || printf '%s\n' "${@:2}"
}

# run COMMAND...: shown as it can be typed
run() {
    local word line=
    for word in "$@"; do
        [[ $word != *' '* ]] || word="'$word'"
        line+=" $word"
    done
    printf '  $%s\n' "$line"
    "$@" 2>&1 | sed 's/^/    /'
}

# merge NAME ADAPTER...: merge into the base and compare with what an independent implementation got
merge() {
    local name=$1 adapter arguments=()
    for adapter in "${@:2}"; do
        arguments+=(--adapter "$adapter")
    done
    run "$lorapack" merge --base "$model/base" "${arguments[@]}" -o "$out/merged-$name"
    python3 examples/compare.py "$model/expected.json" "$name" "$out/merged-$name"
}

# write_manifest FOLDER: of scenarios of all that is above
write_manifest() {
    mkdir -p "$1"
    cp -r "$model/base" "$out"/{scripture,tang,legal}.lora "$1"
    cat >"$1/lorafmt.yaml" <<'EOF'
version: 1
base: base
adapters: {scripture: scripture.lora, tang: tang.lora, legal: legal.lora}
scenarios:
  scripture: {adapters: [scripture]}
  tang: {adapters: [tang]}
  legal: {adapters: [legal]}
  judge:                             # half of each, but no scripture in the last layer
    adapters:
      - {adapter: scripture, weight: 0.5, weights: [{layers: 5, weight: 0}]}
      - {adapter: legal, weight: 0.5}
EOF
    sed 's/^/    /' "$1/lorafmt.yaml"
}

# compare_digests MOUNTED STORED: of all files
compare_digests() {
    local name
    for name in scripture tang legal judge; do
        (cd "$2/$name" && sha256sum ./*) | (cd "$1/$name" && sha256sum --check --quiet)
        printf '    %s: every file has the SHA-256 of the stored one\n' "$name"
    done
}

rm -rf "$out"
mkdir -p "$out"

tell 'What we start from' \
    'A small language model (1.4 million numbers, trained on plain English) and three LoRA adapters for it. Each adapter' \
    'teaches it another manner: the King James Bible, Tang poems, software licences. An adapter is a directory as' \
    'Hugging Face PEFT saves it: the numbers in one file, what they mean in another.'
du -h --apparent-size -s "$model/base" "$model"/adapters/* | sed 's/^/    /'

tell '1. Pack: each directory becomes one file' \
    'A .lora file says everything itself: which layers change, by what, with which scale. Digests guard every byte.'
for name in scripture tang legal; do
    run "$lorapack" pack "$model/adapters/$name" -o "$out/$name.lora"
done

tell '2. Inspect: what is in one of them'
run "$lorapack" inspect "$out/legal.lora"

tell '3. Verify: every digest and every rule of the format'
for name in scripture tang legal; do
    run "$lorapack" verify "$out/$name.lora"
done

tell '4. Merge: base plus adapter becomes an ordinary model' \
    'Every number of the adapter must find its place in the base, or nothing is written. The result is compared with' \
    'the SHA-256 that an independent implementation of the arithmetic got: the same to the last bit.'
for name in scripture tang legal; do
    merge "$name" "$out/$name.lora"
done

tell '5. Mix: half of one adapter and half of another, added in one pass'
merge scripture+legal "$out/scripture.lora=0.5" "$out/legal.lora=0.5"

tell '6. Switch: a running program goes from one adapter to the next' \
    'A loader does not have to merge into files. This one (examples/tinylm, a text generator of its own) keeps the model' \
    'loaded, and goes on from the same words under each adapter, under the mix, and at the end under none again.'
run "$tinylm" --model "$model/base" --prompt 'And he said ' --bytes 120 --temperature 0.6 --seed 1 \
    --swap "$out/scripture.lora" --swap "$out/tang.lora" --swap "$out/legal.lora" \
    --swap "$out/scripture.lora=0.5+$out/legal.lora=0.5" --swap base

tell '7. Rehearse: is it as exact after a thousand switches?'
run "$lorapack" apply --base "$model/base" --adapter "$out/legal.lora" \
    --swap "$out/scripture.lora,$out/tang.lora,$out/scripture.lora=0.5+$out/legal.lora=0.5" --repeat 1000

tell '8. Scenarios: one manifest, one base, many models' \
    'A manifest says which adapters make which model. It is planned, pinned to the last bit, and built.'
scenarios=$out/scenarios
write_manifest "$scenarios"
run "$lorapack" plan "$scenarios/lorafmt.yaml"
run "$lorapack" lock "$scenarios/lorafmt.yaml"
run "$lorapack" build "$scenarios/lorafmt.yaml"

tell '9. Mount: the same models, and nothing is stored' \
    'Each scenario is a directory of files that are computed where they are read, by whatever program reads files.'
mounted=$scenarios/mounted
mkdir "$mounted"
trap 'fusermount3 -uz "$mounted" 2>/dev/null || true' EXIT
if run "$lorapack" mount "$scenarios/lorafmt.yaml" "$mounted"; then
    compare_digests "$mounted" "$scenarios/build"
    printf '  stored copies, and what mounted ones are computed from:\n'
    run du -sh "$scenarios/build"
    run du -shc "$scenarios/base" "$scenarios"/*.lora
    run fusermount3 -u "$mounted"
    run "$lorapack" run "$scenarios/lorafmt.yaml" judge -- "$tinylm" --model '{model}' --prompt 'And he said ' --bytes 120 \
        --temperature 0.6 --seed 1
else
    echo '    So this step is skipped.'
fi

tell 'Done' \
    "The packed adapters and the merged models are in $out/. A merged model is a directory like the base: whatever" \
    'loads that one loads this one, with nothing to install and no cost at run time.'
