#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# The operations of the oracle depend on its seed alone: the same number of them,
# executed twice, has the same digest in each thread; with another seed it differs.

oracle=$(dirname "$0")/vsvm_oracle

# The index, number of operations, and digest of each thread.
digests() {
	"$oracle" --seed "$1" --ops 150 --seconds 0 >"$out" 2>&1 || {
		sed 's/^/# /' "$out"
		return 1
	}
	sed -n 's/.*\(thread [0-9]*: [0-9]* operations ([^)]*)\).*/\1/p' "$out"
}

test_result() {
	if [ "$1" -eq 0 ]; then
		echo "ok $2 $3"
	else
		echo "not ok $2 $3"
		failed=1
	fi
}

failed=0
out=$(mktemp)
seed=$(date +%s)
echo "TAP version 13"
echo "1..2"
echo "# seed $seed"

first=$(digests "$seed") && second=$(digests "$seed") &&
	[ -n "$first" ] && [ "$first" = "$second" ]
test_result $? 1 "the same seed gives the same digests"
[ $failed -eq 0 ] || printf '# %s\n' "$first" "$second"

other=$(digests $((seed + 1))) && [ -n "$other" ] && [ "$first" != "$other" ]
test_result $? 2 "another seed gives other digests"
rm -f "$out"
exit $failed
