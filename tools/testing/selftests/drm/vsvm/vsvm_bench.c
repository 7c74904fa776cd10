// SPDX-License-Identifier: GPL-2.0-only
/*
 * The cost of vsvm per page of 4 KiB, as a process sees it: prefetch, page
 * faults of CPU and GPU, eviction and munmap().
 *
 * Prints medians in nanoseconds, a line of JSON each.  They mean most where a
 * nanosecond is an instruction: qemu-system-x86_64 -smp 1 -icount shift=0.
 *
 * With more than one CPU, a second thread runs beside it, and what is counted
 * is TLB flushes and the interrupts that they send.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>

#include "../../kselftest.h"
#include "vsvm_util.h"

#define MiB		(1024UL * 1024)
#define SIZE		(2 * MiB)
#define ROUNDS		9
#define WARMUP		2

#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define TRACING		"/sys/kernel/tracing/"

/*
 * A profiler outside of the machine sees by these which part is running.  It
 * finds them by their distance: they are linked to an address of their own.  No
 * two are the same, lest the compiler makes them one.
 */
#define MARK(n) \
static void __attribute__((noinline, section(".marks"), aligned(64))) \
mark_##n(void) \
{ \
	asm volatile("nop; nop; nop /* " #n " */" ::: "memory"); \
}

MARK(0) MARK(1) MARK(2) MARK(3) MARK(4) MARK(5) MARK(6) MARK(7)
MARK(8) MARK(9) MARK(10) MARK(11) MARK(12) MARK(13) MARK(14) MARK(15)

static void (* const marks[])(void) = {
	mark_0, mark_1, mark_2, mark_3, mark_4, mark_5, mark_6, mark_7,
	mark_8, mark_9, mark_10, mark_11, mark_12, mark_13, mark_14,
};

/* What the memory is made of before it moves. */
enum source {
	BASE,
	LARGE,
	HUGE,
	UNTOUCHED,
};

static const char * const source_names[] = {
	[BASE] = "base",
	[LARGE] = "64K",
	[HUGE] = "2M",
	[UNTOUCHED] = "untouched",
};

struct bench {
	struct vsvm_gpu gpu;
	/* A second device, if there is one. */
	struct vsvm_gpu peer;
	enum source source;
	/* The memory that moves, and other memory that fills the device. */
	char *mem;
	char *filler;
	/* A second thread, and the end of it. */
	pthread_t thread;
	atomic_bool stop;
};

struct row {
	const char *name;
	enum source source;
	int (*prepare)(struct bench *b);
	int (*run)(struct bench *b);
};

static int new_memory(struct bench *b)
{
	size_t i;

	if (b->mem)
		munmap(b->mem, SIZE);
	b->mem = vsvm_alloc(SIZE, SIZE);
	if (!b->mem)
		return -ENOMEM;
	if (madvise(b->mem, SIZE, b->source == BASE || b->source == UNTOUCHED ?
				  MADV_NOHUGEPAGE : MADV_HUGEPAGE))
		return -errno;
	for (i = 0; i < SIZE && b->source != UNTOUCHED; i += getpagesize())
		b->mem[i] = i / getpagesize() + 1;
	return vsvm_wait_used(b->gpu.fd, b->filler ?
			      b->gpu.query.vram_size : 0);
}

static int to_device(struct bench *b)
{
	return vsvm_prefetch(&b->gpu, b->mem, SIZE, DRM_VSVM_PLACE_DEVICE);
}

static int on_device(struct bench *b)
{
	return new_memory(b) ?: to_device(b);
}

static int on_peer(struct bench *b)
{
	return new_memory(b) ?: vsvm_prefetch(&b->peer, b->mem, SIZE,
					      DRM_VSVM_PLACE_DEVICE);
}

/* Without the interconnect, it has to go by way of RAM. */
static int by_way_of_ram(struct bench *b)
{
	int ret;

	ret = vsvm_set_peers(false);
	if (!ret)
		ret = to_device(b);
	vsvm_set_peers(true);
	return ret;
}

static int cpu_fault(struct bench *b)
{
	vsvm_touch(b->mem);
	return 0;
}

static int gpu_fault(struct bench *b)
{
	uint64_t sum;

	return vsvm_gpu_checksum(&b->gpu, b->mem, sizeof(sum), &sum);
}

static int unmap(struct bench *b)
{
	int ret = munmap(b->mem, SIZE) ? -errno : 0;

	b->mem = NULL;
	return ret;
}

/* Of the filler, what came back with the last round goes to the device again. */
static int fill_device(struct bench *b)
{
	size_t size = b->gpu.query.vram_size, i;
	bool first = !b->filler;
	int ret;

	if (b->mem)
		unmap(b);
	if (first)
		b->filler = vsvm_alloc(size, SIZE);
	if (!b->filler || madvise(b->filler, size, MADV_NOHUGEPAGE))
		return -ENOMEM;
	for (i = 0; first && i < size; i += getpagesize())
		b->filler[i] = 1;
	ret = vsvm_wait_used(b->gpu.fd, first ? 0 : size - SIZE);
	if (!ret)
		ret = vsvm_prefetch(&b->gpu, b->filler, size,
				    DRM_VSVM_PLACE_DEVICE);
	return ret ?: new_memory(b);
}

/* The last is the one with a filler. */
static const struct row rows[] = {
	{ "prefetch", BASE, new_memory, to_device },
	{ "cpu_fault", BASE, on_device, cpu_fault },
	{ "munmap", BASE, on_device, unmap },
	{ "gpu_fault", BASE, new_memory, gpu_fault },
	{ "prefetch", LARGE, new_memory, to_device },
	{ "cpu_fault", LARGE, on_device, cpu_fault },
	{ "gpu_fault", LARGE, new_memory, gpu_fault },
	{ "prefetch", HUGE, new_memory, to_device },
	{ "cpu_fault", HUGE, on_device, cpu_fault },
	{ "gpu_fault", HUGE, new_memory, gpu_fault },
	{ "prefetch", UNTOUCHED, new_memory, to_device },
	{ "peer", BASE, on_peer, to_device },
	{ "peer_by_ram", BASE, on_peer, by_way_of_ram },
	{ "device_full", BASE, fill_device, to_device },
};

static_assert(ARRAY_SIZE(rows) <= ARRAY_SIZE(marks), "a row without a mark");

/* Large folios of one size, that of the source. */
static int set_folios(enum source source)
{
	int ret;

	ret = vsvm_write_file(THP "hugepages-64kB/enabled",
			      source == LARGE ? "madvise" : "never");
	return ret ?: vsvm_write_file(THP "hugepages-2048kB/enabled",
				      source == LARGE ? "never" : "madvise");
}

static long count_folios(enum source source)
{
	return vsvm_file_figure(source == HUGE ?
				THP "hugepages-2048kB/stats/anon_fault_alloc" :
				THP "hugepages-64kB/stats/anon_fault_alloc", "");
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* The memory must be what is to be measured. */
static int prepare(struct bench *b, const struct row *row)
{
	long folios = count_folios(row->source), expect = 0;
	int ret;

	if (row->source == HUGE || row->source == LARGE)
		expect = row->source == HUGE ? 1 : SIZE / (64 * 1024);
	ret = row->prepare(b);
	if (!ret && expect && count_folios(row->source) - folios < expect)
		ret = -ENODATA;
	return ret;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int measure(struct bench *b, unsigned int index)
{
	const struct row *row = &rows[index];
	size_t npages = SIZE / getpagesize();
	uint64_t start, ns[ROUNDS];
	int i, ret;

	for (i = -WARMUP; i < ROUNDS; i++) {
		ret = prepare(b, row);
		if (ret)
			return ret;
		if (i >= 0)
			marks[index]();
		start = now_ns();
		ret = row->run(b);
		if (i >= 0)
			ns[i] = now_ns() - start;
		mark_15();
		if (ret)
			return ret;
	}
	qsort(ns, ROUNDS, sizeof(*ns), compare);
	fprintf(stdout,
		"BENCH {\"op\":\"%s\",\"source\":\"%s\",\"size\":%lu,\"ns\":%.2f,\"huge\":%ld,\"section\":%u,\"pages\":%zu}\n",
		row->name, source_names[row->source], SIZE,
		(double)ns[ROUNDS / 2] / npages,
		b->mem ? vsvm_mapped_huge(b->mem, SIZE) : 0, index,
		ROUNDS * npages);
	return 0;
}

/* Counts of TLB flushes, by CPUs, and of interrupts for them. */
struct flushes {
	long local;
	long rounds;
	long interrupts;
};

static int read_flushes(struct flushes *flushes)
{
	char line[256], *p, *end;
	FILE *file;

	memset(flushes, 0, sizeof(*flushes));
	file = fopen(TRACING "trace", "r");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		if (!strstr(line, "tlb_flush:"))
			continue;
		flushes->local += !!strstr(line, "local");
		flushes->rounds += !!strstr(line, "send");
	}
	fclose(file);

	file = fopen("/proc/interrupts", "r");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		p = strstr(line, "TLB:");
		if (!p)
			continue;
		for (p += 4; ; p = end) {
			long n = strtol(p, &end, 10);

			if (end == p)
				break;
			flushes->interrupts += n;
		}
	}
	fclose(file);
	return 0;
}

static int count_flushes(struct bench *b, const struct row *row)
{
	struct flushes before, after;
	int ret;

	ret = prepare(b, row);
	ret = ret ?: read_flushes(&before);
	ret = ret ?: vsvm_write_file(TRACING "events/tlb/tlb_flush/enable", "1");
	ret = ret ?: row->run(b);
	ret = ret ?: vsvm_write_file(TRACING "events/tlb/tlb_flush/enable", "0");
	ret = ret ?: read_flushes(&after);
	if (!ret)
		fprintf(stdout,
			"FLUSHES {\"op\":\"%s\",\"source\":\"%s\",\"pages\":%lu,\"local\":%ld,\"rounds\":%ld,\"interrupts\":%ld}\n",
			row->name, source_names[row->source],
			SIZE / getpagesize(), after.local - before.local,
			after.rounds - before.rounds,
			after.interrupts - before.interrupts);
	return ret;
}

static int pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

static void *spin(void *arg)
{
	struct bench *b = arg;

	if (pin(1))
		return NULL;
	while (!atomic_load(&b->stop))
		;
	return NULL;
}

static int run_row(struct bench *b, unsigned int index, bool smp)
{
	const struct row *row = &rows[index];
	int ret;

	if (row->prepare == on_peer && b->peer.fd < 0)
		return 0;
	b->source = row->source;
	ret = set_folios(row->source);
	if (!ret)
		ret = smp ? count_flushes(b, row) : measure(b, index);
	if (ret)
		fprintf(stderr, "%s of %s failed: %s\n", row->name,
			source_names[row->source], strerror(abs(ret)));
	if (b->mem)
		unmap(b);
	return ret;
}

int main(void)
{
	bool smp = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	struct bench b = {};
	unsigned int i;
	int ret;

	ret = vsvm_gpu_open(&b.gpu, 0);
	if (ret) {
		fprintf(stderr, "no vsvm device: %s\n", strerror(-ret));
		return 1;
	}
	ret = vsvm_gpu_open(&b.peer, 1);
	if (ret)
		b.peer.fd = -1;
	ret = 0;
	if (smp && (pin(0) || pthread_create(&b.thread, NULL, spin, &b)))
		return 1;
	for (i = 0; i < ARRAY_SIZE(rows) && !ret; i++)
		ret = run_row(&b, i, smp);
	if (smp) {
		atomic_store(&b.stop, true);
		pthread_join(b.thread, NULL);
	}
	return ret ? 1 : 0;
}
