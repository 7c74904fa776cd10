# Sourced by the other scripts: paths, identity, small helpers.
# shellcheck shell=bash disable=SC2034
set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$(realpath -m "${BUILD:-$TOP/build}")
JOBS=${JOBS:-$(nproc)}
KSRC=${KSRC:+$(realpath -m "$KSRC")}
# shellcheck source=BASE
. "$TOP/BASE"

# Another kernel source gets its own tree and its own object folders.
VARIANT=${KSRC:+-$(basename "$KSRC")-$(printf %s "$KSRC" | sha256sum | cut -c1-6)}
TREE=$BUILD/linux$VARIANT
CHECK=$BUILD/check$VARIANT
LOGS=$BUILD/logs
mkdir -p "$BUILD" "$LOGS"

# Memory set aside for hmm-tests, which then have their coherent devices, too.
# shellcheck disable=SC2016
HMM_MEMORY='memmap=640M$0x58000000 drm_pagemap_kunit.coherent=0x58000000 test_hmm.spm_addr_dev0=0x60000000 test_hmm.spm_addr_dev1=0x70000000'
# For two vsvm devices; the others have memory of their own.
# shellcheck disable=SC2016
VSVM_MEMORY='memmap=512M$0x60000000 vsvm.coherent=0x60000000,0x61000000'

# Lines of a kernel log that look like a defect, and those of them that are none.
SPLAT='WARNING:|BUG:|Oops|general protection fault|nable to handle|Kernel panic|Call Trace:|KASAN|KCSAN: |UBSAN: |ODEBUG: '
SPLAT+='|INFO: (possible|trying to register|lockdep is turned off|task .* blocked)|possible (circular|recursive)|inconsistent lock state'
SPLAT+='|suspicious RCU usage|detected stall|self-detected stall|soft lockup|hard LOCKUP|refcount_t:|list_(add|del) corruption'
SPLAT+='|DMA-API: |memory corruption|Bad page|bad pte|Bad rss-counter|non-zero pgtables_bytes|kmemleak: .*(new suspected|disabled)|segfault at|traps: .* trap'
HARMLESS='KernelAddressSanitizer initialized|DMA-API: (preallocated|debugging enabled|debugging disabled on kernel command line|debugfs)'
# Known races of the kernel: the timer's calibration at boot counts ticks in an interrupt, and a worker
# reads flags and number of a work item while another thread marks it as pending again, which is allowed.
HARMLESS+='|KCSAN: data-race in (lapic_cal_handler / setup_boot_APIC_clock|process_one_work / queue_work_on'
# The memory cgroup reads the clock while it ticks; and a wait for invalidations reads, with READ_ONCE(), a
# sequence number that is changed under a lock, and reads it again after each wake-up.
HARMLESS+='|do_timer / mem_cgroup_flush_stats_ratelimited|__mmu_notifier_invalidate_range_(start|end) / mmu_interval_read_begin'
# A folio's node is read from its flags while other bits of them are set, atomically.  A spinner of a sleeping lock
# looks at its predecessor with READ_ONCE(); a sleeper looks whether its timer has run; and who drains the batches of
# all CPUs reads the number of folios in those of mlock() while their CPU goes on.
HARMLESS+='|__lruvec_stat_mod_folio / [a-z_]+|osq_lock / osq_unlock|do_nanosleep / hrtimer_wakeup'
HARMLESS+='|(mun|m)lock_[a-z_]+ / need_mlock_drain)'

# What the tests of broken memory bring about.
HARMLESS+='|vsvm_failure_te:[0-9]+ due to hardware memory corruption'

# Personal git settings must not change the result of an apply or an export.
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
export GIT_CONFIG_COUNT=4
export GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
export GIT_CONFIG_KEY_1=gc.auto GIT_CONFIG_VALUE_1=0
export GIT_CONFIG_KEY_2=advice.detachedHead GIT_CONFIG_VALUE_2=false
export GIT_CONFIG_KEY_3=core.commitGraph GIT_CONFIG_VALUE_3=false
export GIT_COMMITTER_NAME=$SERIES_NAME GIT_COMMITTER_EMAIL=$SERIES_EMAIL
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# step "text" "usual time" command...: announce a step and its usual time, then the time it took.
step() {
	local text=$1 usual=$2 start=$SECONDS
	shift 2
	say "$text (usually $usual)"
	"$@"
	say "$text: done in $((SECONDS - start)) s"
}

# Results are read with the parser of the tree's kunit.py.
ktap() { PYTHONPATH=$TREE/tools/testing/kunit "$TOP/scripts/ktap" "$@"; }

# One user of a tree or an object folder at a time; the lock goes with the process.
lock() {
	exec {lock_fd}>"$BUILD/.lock-$1"
	flock -n "$lock_fd" || { say "waiting for another run that uses $1"; flock "$lock_fd"; }
}

series_patches() { sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$TOP/series"; }

# Identifies the series: changes when a patch, or their order, changes.
series_hash() {
	(cd "$TOP" && { cat series; series_patches | sed 's|^|patches/|' | xargs -r -d '\n' cat; } | sha256sum | cut -d' ' -f1)
}

# The cover letter with the number and the list of the patches, whose subjects are read.
cover_letter() {
	awk 'NR == FNR { list = list sprintf("  %2d %s\n", NR, $0); n = NR; next }
	     /^Subject: / { sub(/ [0-9]+\/[0-9]+\]/, sprintf(" %0" length(n) "d/%d]", 0, n)) }
	     /^  / && old { next }
	     { print; old = 0 }
	     /^Patches:$/ { printf "%s", list; old = 1 }' - "$TOP/cover-letter.txt"
}

# The machine a configuration is for: $arch and $image as the kernel's Makefiles call them, $cross the
# prefix of the compiler, $console the serial port of the kernel, $channel that of the programs.
machine_of() {	# CONFIG
	arch=x86 cross='' image=arch/x86/boot/bzImage console=ttyS0 channel=ttyS1
	case $1 in
	uml*) arch=um image=linux ;;
	i386*) arch=i386 ;;
	arm64*) arch=arm64 cross=aarch64-linux-gnu- image=arch/arm64/boot/Image console=ttyAMA0 channel=hvc0 ;;
	esac
}

# The source files a work tree has changed or added since the base, of those that are compiled.
changed_sources() {	# TREE
	git -C "$1" diff --name-only --diff-filter=d base HEAD -- '*.c' |
		sed -nE '/^(tools|samples|Documentation|scripts)\//d; /^arch\//{/^arch\/x86\//!d}; p'
}

# Keep the lines "FILE:LINE..." that point to a line the commits $2 of a work tree added.
changed_lines() {	# TREE COMMITS FILE
	git -C "$1" diff -U0 --no-renames "$2" | awk '
		NR == FNR && /^\+\+\+ b\// { file = substr($0, 7) }
		NR == FNR && /^@@/ { split(substr($3, 2), a, ","); n = a[2] == "" ? 1 : a[2]
		                     for (i = 0; i < n; i++) mine[file ":" a[1] + i] = 1 }
		NR != FNR { line = $0; split(line, a, ":"); if ((a[1] ":" a[2]) in mine) print line }' - "$3"
}

# The symbols that a work tree has added since the base, as configuration: with value $2, those that cannot
# be modules with y instead of m.
new_symbols() {	# TREE y|m|n
	git -C "$1" diff -U0 base HEAD -- '*Kconfig*' | awk -v value="$2" '
		/^\+(menu)?config [A-Z0-9_]+$/ { symbol = "CONFIG_" $2 }
		/^\+\t(bool|tristate)/ && symbol {
			if (value == "n") print "# " symbol " is not set"
			else print symbol "=" (/bool/ ? "y" : value)
			symbol = "" }'
}

kernel_version() { make -s -C "$1" kernelversion; }

# $CHECK is a second work tree of the tree's repository, for the scripts alone.
open_check_worktree() {
	git -C "$TREE" worktree prune
	if [[ ! -e $CHECK/.git ]] || ! git -C "$CHECK" rev-parse -q --verify HEAD >/dev/null 2>&1; then
		rm -rf "$CHECK"
		git -C "$TREE" worktree add -q -f --detach "$CHECK" base
	fi
	git -C "$CHECK" am --abort >/dev/null 2>&1 || true
}
