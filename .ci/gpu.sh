#!/usr/bin/env bash
# Tests and measurements that need a GPU:
#     [ROUNDS=11] bash .ci/gpu.sh OUT
# The GPU tests, the step against the baseline loop, an epoch of resnet19. The JSON belongs in recipes/results/speed, from
# which recipes/results/render.py renders it. Exits with 1 if any of it failed; what was measured until then is in OUT.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: bash .ci/gpu.sh OUT}
mkdir -p "$out"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
failed=0
measure() {
    echo "+ ${*:2}"
    "${@:2}" >"$out/$1" || { failed=1; rm -f "$out/$1"; echo "failed: ${*:2}" >&2; }
}
python3 -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo "no GPU here" >&2; exit 1; }
python3 -c 'from snnkd.training.environment import versions; print(versions())' || exit 1
step=(python3 -m snnkd bench --data cifar100 --batch-size 128 --loss hta-kl --device cuda --rounds "${ROUNDS:-11}" --json)
# first the test that the comparison depends on; warnings of other versions of torch are not failures here
python3 -m pytest -q -W default tests/training/test_on_a_gpu.py -k baseline_loop || failed=1
measure bench-resnet18-gpu.json "${step[@]}" --model resnet18 --T 4 --baseline --ablations
measure epoch-resnet19-gpu.json python3 recipes/results/speed/measure.py epoch --model resnet19 --T 2 --device cuda
measure bench-resnet19-gpu.json "${step[@]}" --model resnet19 --T 2 --baseline
python3 -m pytest -q -W default tests/training/test_on_a_gpu.py 2>&1 | tee "$out/tests.txt" || failed=1
measure bench-resnet18-gpu-compiled.json "${step[@]}" --model resnet18 --T 4 --baseline --set execution.compile=on
exit "$failed"
