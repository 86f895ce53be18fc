#!/bin/bash
# SPDX-License-Identifier: MIT
# The array job of `lorapack emit --for slurm` on a Slurm of two workers, which is started for it on loopback addresses and ended after.
# Not one of the tests that run by themselves: it wants Debian's slurm-wlm and munge, and to be root or the user `slurm`.
#
# usage: slurm_two_workers.sh LORAPACK DEMO_MODEL
set -euo pipefail

lorapack=$(realpath "$1")
demo=$(realpath "$2")
PATH=$PATH:/usr/sbin
for program in munged slurmctld slurmd sbatch squeue sinfo; do
    command -v "$program" >/dev/null || { echo "there is no $program: apt-get install slurm-wlm munge"; exit 77; }
done
work=$(mktemp -d)
started=()

end() {
    local pid
    for pid in "${started[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${started[@]}"; do
        timeout 10 tail --pid="$pid" -f /dev/null || kill -KILL "$pid" || true
    done
    rm -rf "$work"
}
trap end EXIT

fail() {
    echo "FAIL: $1"
    tail -n 20 "$work"/*.log "$work"/slurm-*.out 2>/dev/null || true
    exit 1
}

# A program that stays in the foreground, ended with this script.
start() {
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 &
    started+=($!)
}

# Wait until a command succeeds.
until_true() {
    local seconds=$1 what=$2
    shift 2
    for ((i = 0; i < 10 * seconds; i++)); do
        if "$@" >/dev/null 2>&1; then
            return
        fi
        sleep 0.1
    done
    fail "$what, not after $seconds seconds"
}

user=$(id -un)
host=$(hostname -s)
first_port=$((20000 + $$ % 20000))
mkdir -p "$work"/{munge,ctld,w1,w2}
chmod 0755 "$work" "$work"/munge
dd if=/dev/urandom of="$work/munge/key" bs=64 count=1 status=none
chmod 0400 "$work/munge/key"
cat >"$work/slurm.conf" <<END
ClusterName=two
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$first_port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$work/munge/socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=$work/ctld
SlurmctldPidFile=$work/ctld.pid
SlurmdPidFile=$work/%n.pid
SlurmdSpoolDir=$work/%n
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName=w1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((first_port + 1)) CPUs=1
NodeName=w2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$((first_port + 2)) CPUs=1
PartitionName=all Nodes=w1,w2 Default=YES MaxTime=5 State=UP
END
export SLURM_CONF=$work/slurm.conf

start munged munged --foreground --force --key-file="$work/munge/key" --socket="$work/munge/socket" --pid-file="$work/munge/pid" \
    --log-file="$work/munged-own.log" --seed-file="$work/munge/seed"
until_true 10 'munged has a socket' test -S "$work/munge/socket"
start slurmctld slurmctld -D
start w1 slurmd -D -N w1
start w2 slurmd -D -N w2
both_idle() { [ "$(sinfo -h -N -o '%N %t' | grep -c ' idle$')" = 2 ]; }
until_true 30 'both workers are idle' both_idle

cp -r "$demo/base" "$demo/adapters" "$work"
cat >"$work/lorafmt.yaml" <<END
version: 1
base: base
adapters:
  legal: adapters/legal
  tang: adapters/tang
scenarios:
  legal: {adapters: [legal]}
  mix: {adapters: [legal, {adapter: tang, weight: 0.5}]}
END
cd "$work"
"$lorapack" build lorafmt.yaml -o direct --quiet
"$lorapack" emit lorafmt.yaml --for slurm --parts 2 -o job.sh
job=$(sbatch --parsable job.sh "$lorapack")
job_is_over() { [ -z "$(squeue -h -j "$job" 2>/dev/null)" ]; }
until_true 90 'the job is over' job_is_over
for scenario in legal mix; do
    diff -r "direct/$scenario" "build/$scenario" || fail "$scenario has other bytes than \`build\` writes"
done
[ "$(find . -maxdepth 1 -name "slurm-${job}_*.out" | wc -l)" = 4 ] || fail 'there were not four tasks'
for worker in w1 w2; do
    grep -q 'Launching batch job' "$worker.log" || fail "$worker did nothing"
done
echo 'passed: four tasks on two workers, the same bytes as build'
