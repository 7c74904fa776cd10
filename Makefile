# The work bench of the series.  "make help" lists the targets.
#
#   BUILD=DIR   where everything is built (default: build)    KSRC=DIR  another linux-6.12.y source
#   SECONDS=N SEED=N  for "make soak"
#   JOBS=N      parallel jobs (default: all processors)       FORCE=1   let "make tree" drop commits
#   CYCLES=N    for "make modules" and "make replug", which also takes CONFIG=    N=N  for "make mutants" and "make profile"
#   PATCHES="1 15 70-73"  for "make each"
#   ACCEL=tcg|kvm  what QEMU uses (default: KVM if a kernel boots on it)

export BUILD KSRC JOBS FORCE ACCEL CYCLES PATCHES
MAKEFLAGS += --no-print-directory

help:			## list the targets
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

demo:			## boot a kernel with the series; a process moves its memory to a device and back
	@scripts/demo
test:			## run all test suites: UML, QEMU, coherent memory, a debug kernel, failing allocations, swiotlb=force
	@scripts/test
kunit:			## run the KUnit suites by the kernel's kunit.py: all of DRM on UML, device memory in QEMU
	@scripts/kunit
soak:			## run random operations against a model on the debug kernel, for SECONDS=600, with SEED=
	@scripts/soak $(or $(SECONDS),600) $(SEED)
replug:			## unbind and bind a device CYCLES=1000 times while the oracle runs; CONFIG=x86_64-debug
	@scripts/replug $(or $(CYCLES),1000) $(CONFIG)
endure:			## run a million of both kinds of random operations on KASAN and on KCSAN, over many boots (hours)
	@scripts/endure
tree:			## make an ordinary git tree with the series applied, one commit per patch: build/linux
	@scripts/tree
export:			## write patches/, series and the overlay from the branch "work" of that tree
	@scripts/export
check:			## check that patches and overlay agree, and that each patch applies, builds and passes the checkers
	@scripts/check
kcsan:			## run the test suites on a kernel with the data race detector
	@scripts/test kcsan
rt:			## run the test suites on a fully preemptible kernel (PREEMPT_RT)
	@scripts/test rt
each:			## build a whole kernel of each patch, with the symbols =y, =m and =n (hours)
	@scripts/check each
kernel:			## build the kernel the tests use
	@KEEP=1 scripts/tree && scripts/kernel x86_64
arm64:			## run the test suites on an emulated arm64 machine, with pages of 4K and of 64K
	@scripts/test arm64 arm64-64k
debian:			## run the test suites on a kernel with Debian's own configuration, the series in modules
	@scripts/test debian
configs:		## compile what the series changes with clang, for i386, UML and arm64, without parts of mm, ...
	@scripts/configs
modules:		## load and unload the modules 1000 times (CYCLES=N), while programs use them
	@scripts/test modules
hmm-base:		## run the kernel's hmm-tests on the base and compare with the series
	@scripts/hmm-base
bench:			## measure what a page costs, in instructions: layer, hand-written code, vsvm, huge pages
	@scripts/bench
profile:		## show where the instructions go when memory moves, by phase and function; N=12 functions
	@scripts/profile $(N)
docs:			## build the pages of Documentation/gpu with htmldocs; warnings about ours are errors
	@scripts/docs
coverage:		## measure which lines and branches of the series' code the tests execute
	@scripts/coverage
mutants:		## change the code in one place at a time, and see whether the tests notice; N=150 places
	@scripts/mutants --count $(or $(N),150)
mbox:			## write one threaded mailbox per section, each with its cover letter: build/mbox
	@scripts/mbox
vanilla:		## apply and build on the vanilla kernel Debian's package is made from
	@scripts/other vanilla
older:			## apply and build on the oldest 6.12 source apt still offers
	@scripts/other older
debian13:		## from nothing to a demo on Debian 13, in a folder of its own (as root)
	@scripts/debian13
clean:			## delete built kernels and logs, keep the git tree and downloads
	@scripts/clean objects
distclean:		## delete all of build/, also the git tree
	@scripts/clean all

.PHONY: help demo test kunit soak replug endure tree export check kcsan rt each kernel arm64 debian configs modules hmm-base bench profile docs coverage mutants mbox vanilla older debian13 clean distclean
