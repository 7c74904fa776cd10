// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shows a process and a GPU, here the virtual one of vsvm, at work on the same
 * memory, under the same addresses: memory that the GPU touches moves to it,
 * memory that the CPU touches comes back.
 *
 * Each line is a step.  The bar shows where each part of the memory is after
 * it, as reported by the driver; /proc/self/pagemap must agree.  Then the
 * contents are verified where they are.  Any difference makes the program fail.
 */

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "vsvm_util.h"

#define BAR_WIDTH	24
#define NODES		3000
#define DIM		32

struct counts {
	uint64_t gpu_faults;
	uint64_t evictions;
	long long moved;
	long long returned;
};

struct demo {
	struct vsvm_gpu gpu;
	struct vsvm_gpu second;
	/* Another VM, which reads memory where it is, and moves none. */
	struct vsvm_gpu witness;
	size_t page;

	/* The memory to show. */
	char *mem;
	size_t size;
	uint64_t checksum;

	struct counts before;
	struct counts total;
	int failures;
};

static void fail(struct demo *d, const char *what, int err)
{
	printf("  ** %s: %s\n", what, err ? strerror(abs(err)) : "wrong");
	d->failures++;
}

static void must(struct demo *d, const char *what, int ret)
{
	if (ret)
		fail(d, what, ret);
}

static struct counts count(struct demo *d)
{
	struct drm_vsvm_stats stats = {};
	struct counts c = {};

	if (!vsvm_stats(d->gpu.fd, &stats)) {
		c.gpu_faults = stats.gpu_faults;
		c.evictions = stats.evictions;
	}
	c.moved = vsvm_region_figure(0, "pages-to-devmem");
	c.returned = vsvm_region_figure(0, "pages-faulted");
	return c;
}

static void begin(struct demo *d)
{
	d->before = count(d);
}

static char bar_char(const struct drm_vsvm_page *page, size_t n)
{
	static const char chars[] = {
		[DRM_VSVM_PLACE_NONE] = '.',
		[DRM_VSVM_PLACE_SYSTEM] = '-',
		[DRM_VSVM_PLACE_DEVICE] = '#',
		[DRM_VSVM_PLACE_PEER] = '2',
		[DRM_VSVM_PLACE_UNMAPPED] = ' ',
	};
	size_t i, most = 0, count[sizeof(chars)] = {};

	for (i = 0; i < n; i++)
		count[page[i].place]++;
	for (i = 0; i < sizeof(chars); i++)
		if (count[i] > count[most])
			most = i;
	return chars[most];
}

/* Without the device only the kernel can tell. */
static int look(struct demo *d, struct drm_vsvm_page *pages, size_t n)
{
	uint8_t *pagemap = (uint8_t *)(pages + n);
	long count;
	size_t i;
	int ret;

	ret = vsvm_residency(&d->gpu, d->mem, d->size, pages);
	if (ret != -ENODEV) {
		count = ret ? ret : vsvm_count(&d->gpu, d->mem, d->size,
					       DRM_VSVM_PLACE_NONE);
		return count < 0 ? count : 0;
	}
	ret = vsvm_pagemap(d->mem, n, pagemap);
	for (i = 0; i < n && !ret; i++)
		pages[i].place = pagemap[i] == VSVM_PAGEMAP_PRESENT ?
				 DRM_VSVM_PLACE_SYSTEM : DRM_VSVM_PLACE_NONE;
	return ret;
}

static void show_bar(struct demo *d, char *bar)
{
	size_t n = d->size / d->page, c, first, last;
	struct drm_vsvm_page *pages = calloc(n, sizeof(*pages) + 1);
	int ret = pages ? look(d, pages, n) : -ENOMEM;

	memset(bar, '?', BAR_WIDTH);
	bar[BAR_WIDTH] = '\0';
	if (ret) {
		fail(d, ret == -EILSEQ ? "driver and kernel differ on residency" :
					 "residency", ret);
	} else {
		for (c = 0; c < BAR_WIDTH; c++) {
			first = c * n / BAR_WIDTH;
			last = (c + 1) * n / BAR_WIDTH;
			bar[c] = bar_char(pages + first,
					  last > first ? last - first : 1);
		}
	}
	free(pages);
}

/* By the second VM, or by the CPU if there is no device. */
static bool verify(struct demo *d)
{
	uint64_t sum = 0;
	int ret;

	if (!d->checksum)
		return true;
	ret = vsvm_gpu_checksum(&d->witness, d->mem, d->size, &sum);
	if (ret == -ENODEV)
		sum = vsvm_checksum(d->mem, d->size);
	else
		must(d, "checksum of the witness", ret);
	return sum == d->checksum;
}

/* A picture that is drawn correctly can still be the wrong one. */
static void expect(struct demo *d, size_t size, uint8_t place)
{
	if (vsvm_count(&d->gpu, d->mem, size, place) != (long)(size / d->page))
		fail(d, "where the memory is", 0);
}

static void end(struct demo *d, const char *step)
{
	struct counts after = count(d), *total = &d->total;
	uint64_t faults = after.gpu_faults - d->before.gpu_faults;
	uint64_t evictions = after.evictions - d->before.evictions;
	long long returned = after.returned - d->before.returned;
	long long moved = after.moved - d->before.moved;
	char bar[BAR_WIDTH + 1];
	bool good;

	/* A device that was bound again starts with zero. */
	if (after.gpu_faults < d->before.gpu_faults || after.returned < 0) {
		faults = 0;
		evictions = 0;
		returned = 0;
		moved = 0;
	}
	total->gpu_faults += faults;
	total->evictions += evictions;
	total->returned += returned;
	total->moved += moved;

	show_bar(d, bar);
	good = verify(d);
	printf("%-32s %s %6llu %6lld %4llu %s\n", step, bar,
	       (unsigned long long)faults, returned,
	       (unsigned long long)evictions,
	       !d->checksum ? " -" : good ? "ok" : "BAD");
	fflush(stdout);
	if (!good)
		fail(d, "contents", 0);
}

static void heading(const char *text)
{
	printf("\n%-57s %6s %6s %4s\n", text, "GPU", "CPU", "evic");
	printf("%-32s %-24s %6s %6s %4s %s\n", "", "start to end of the memory",
	       "faults", "pages", "tion", "data");
}

static int open_devices(struct demo *d)
{
	int ret;

	ret = vsvm_gpu_open(&d->gpu, 0);
	if (ret)
		return ret;
	ret = vsvm_gpu_open(&d->witness, 0);
	if (!ret && d->mem)
		ret = vsvm_advise(&d->witness, d->mem, d->size,
				  DRM_VSVM_ADVICE_SYSTEM);
	return ret;
}

static void watch(struct demo *d, void *mem, size_t size)
{
	uintptr_t start = (uintptr_t)mem / d->page * d->page;

	d->mem = (char *)start;
	d->size = ((uintptr_t)mem + size - start + d->page - 1) / d->page *
		  d->page;
	d->checksum = 0;
	must(d, "advise", vsvm_advise(&d->witness, d->mem, d->size,
				      DRM_VSVM_ADVICE_SYSTEM));
}

struct node {
	struct node *next;
	uint64_t value;
	char payload[240];
};

/* From malloc(): a pointer is a pointer for both. */
static void demo_list(struct demo *d)
{
	struct node *first = NULL, *node, *low = NULL, *high = NULL;
	uint64_t nodes = 0, sum = 0, expected = 0, found = 0;
	int i;

	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	heading("A linked list, made of malloc()");
	for (i = 0; i < NODES; i++) {
		node = malloc(sizeof(*node));
		if (!node) {
			fail(d, "malloc", -ENOMEM);
			return;
		}
		node->next = first;
		node->value = i;
		first = node;
		if (!low || node < low)
			low = node;
		if (node > high)
			high = node;
	}
	watch(d, low, (char *)(high + 1) - (char *)low);
	begin(d);
	end(d, "CPU builds it, 3000 nodes");

	begin(d);
	must(d, "walk", vsvm_gpu_walk(&d->gpu, first, NODES, 8, 1000, &nodes,
				      &sum));
	end(d, "GPU walks it, adds 1000 to each");
	if (nodes != NODES || sum != NODES * (NODES - 1) / 2)
		fail(d, "what the GPU found", 0);

	begin(d);
	for (node = first; node; node = node->next)
		found += node->value;
	end(d, "CPU walks it and adds up");
	for (i = 0; i < NODES; i++)
		expected += 1000 + i;
	printf("  sum of the CPU: %llu, expected: %llu\n",
	       (unsigned long long)found, (unsigned long long)expected);
	if (found != expected)
		fail(d, "sum", 0);
}

/* Row by row: c[i] += b[k] * a[i][k]. */
static void multiply(struct demo *d, uint64_t (*c)[DIM], uint64_t (*a)[DIM],
		     uint64_t (*b)[DIM])
{
	uint32_t i, k, n, max = d->gpu.query.max_ops;
	struct drm_vsvm_op ops[DIM];

	for (i = 0; i < DIM; i++) {
		for (k = 0, n = 0; k < DIM; k++) {
			ops[n++] = vsvm_op_muladd(c[i], b[k], &a[i][k],
						  sizeof(c[i]));
			if (n < max && k + 1 < DIM)
				continue;
			must(d, "muladd", vsvm_run(&d->gpu, ops, n, NULL));
			n = 0;
		}
	}
}

static void demo_matrix(struct demo *d)
{
	size_t one = sizeof(uint64_t[DIM][DIM]);
	uint64_t (*a)[DIM], (*b)[DIM], (*c)[DIM], sum;
	int i, j, k, bad = 0;

	heading("A product of matrices, 32 x 32 words");
	a = vsvm_alloc(3 * one, d->gpu.query.chunk_size);
	if (!a) {
		fail(d, "memory", -ENOMEM);
		return;
	}
	b = a + DIM;
	c = b + DIM;
	vsvm_fill(a, 2 * one, 7);
	memset(c, 0, one);
	watch(d, a, 3 * one);
	begin(d);
	end(d, "CPU makes two, and one of zeroes");

	begin(d);
	multiply(d, c, a, b);
	end(d, "GPU multiplies: 1024 vector ops");

	begin(d);
	for (i = 0; i < DIM; i++) {
		for (j = 0; j < DIM; j++) {
			for (k = 0, sum = 0; k < DIM; k++)
				sum += a[i][k] * b[k][j];
			bad += sum != c[i][j];
		}
	}
	end(d, "CPU multiplies as well");
	printf("  %d of %d words differ\n", bad, DIM * DIM);
	if (bad)
		fail(d, "product", 0);
	munmap(a, 3 * one);
}

static void touch(struct demo *d, size_t first, size_t last)
{
	for (; first < last; first += d->page)
		vsvm_touch(d->mem + first);
}

static void to_system(struct demo *d)
{
	must(d, "prefetch", vsvm_prefetch(&d->gpu, d->mem, d->size,
					  DRM_VSVM_PLACE_SYSTEM));
}

static void gpu_reads(struct demo *d, struct vsvm_gpu *gpu, size_t size)
{
	uint64_t sum;

	must(d, "checksum", vsvm_gpu_checksum(gpu, d->mem, size, &sum));
	if (size == d->size && sum != d->checksum)
		fail(d, "what the GPU read", 0);
}

static void fork_child(struct demo *d)
{
	/* Its memory, its VMs. */
	d->failures = 0;
	must(d, "devices of the child", open_devices(d));
	begin(d);
	vsvm_fill(d->mem, d->size / 4, 99);
	d->checksum = vsvm_checksum(d->mem, d->size);
	end(d, "  child writes to a quarter");
	_exit(d->failures ? 1 : 0);
}

static void demo_fork(struct demo *d)
{
	pid_t pid;

	must(d, "prefetch", vsvm_prefetch(&d->gpu, d->mem, d->size,
					  DRM_VSVM_PLACE_DEVICE));
	begin(d);
	pid = fork();
	if (!pid)
		fork_child(d);
	if (vsvm_wait_child(pid))
		fail(d, "child", 0);
	end(d, "fork(): parent, after the child");
}

static void demo_evict(struct demo *d)
{
	size_t size = d->gpu.query.vram_size;
	char *big = vsvm_alloc(size, d->gpu.query.chunk_size);
	uint64_t evictions = d->total.evictions;
	int ret;

	if (!big) {
		fail(d, "memory", -ENOMEM);
		return;
	}
	must(d, "prefetch", vsvm_prefetch(&d->gpu, d->mem, d->size,
					  DRM_VSVM_PLACE_DEVICE));
	begin(d);
	ret = vsvm_gpu_fill(&d->gpu, big, size, 1);
	end(d, "GPU fills other memory: eviction");
	must(d, "fill", ret);
	if (d->total.evictions == evictions)
		fail(d, "evictions", 0);
	expect(d, d->size, DRM_VSVM_PLACE_SYSTEM);
	if (vsvm_verify_value(big, size, 1) != -1)
		fail(d, "the other memory", 0);
	munmap(big, size);
}

static void demo_unbind(struct demo *d)
{
	int ret;

	must(d, "prefetch", vsvm_prefetch(&d->gpu, d->mem, d->size,
					  DRM_VSVM_PLACE_DEVICE));
	begin(d);
	must(d, "unbind", vsvm_bind(0, false));
	end(d, "the device is unplugged, in use");
	ret = vsvm_gpu_fill(&d->gpu, d->mem, d->size, 1);
	if (ret != -ENODEV)
		fail(d, "job without a device", ret);
	vsvm_gpu_close(&d->gpu);
	vsvm_gpu_close(&d->witness);

	must(d, "bind", vsvm_bind(0, true));
	must(d, "open", open_devices(d));
	begin(d);
	gpu_reads(d, &d->gpu, d->size);
	end(d, "it is back, and reads all");
	expect(d, d->size, DRM_VSVM_PLACE_DEVICE);
}

static void demo_reads(struct demo *d)
{
	static const char * const step[] = {
		"GPU reads the first quarter", "  the first half",
		"  three quarters", "  all",
	};
	int i;

	for (i = 0; i < 4; i++) {
		begin(d);
		gpu_reads(d, &d->gpu, d->size / 4 * (i + 1));
		end(d, step[i]);
		expect(d, d->size / 4 * (i + 1), DRM_VSVM_PLACE_DEVICE);
	}
	begin(d);
	touch(d, d->size / 2, d->size / 2 + d->page);
	end(d, "CPU reads a word: an allocation");
}

/* The CPU takes back page by page, if that was asked for. */
static void demo_window(struct demo *d)
{
	struct drm_vsvm_advise args = {
		.vm_id = d->gpu.vm,
		.start = (uintptr_t)d->mem,
		.size = d->size,
		.fault_window = d->page,
	};

	to_system(d);
	must(d, "advise", vsvm_ioctl(d->gpu.fd, DRM_IOCTL_VSVM_ADVISE, &args));
	begin(d);
	gpu_reads(d, &d->gpu, d->size);
	touch(d, d->size / 2, d->size * 5 / 8);
	end(d, "again; CPU reads 1/8, by pages");
	to_system(d);
	must(d, "advise", vsvm_advise(&d->gpu, d->mem, d->size,
				      DRM_VSVM_ADVICE_DEFAULT));
}

static void demo_second(struct demo *d)
{
	if (d->second.fd < 0)
		return;
	gpu_reads(d, &d->gpu, d->size / 2);
	begin(d);
	gpu_reads(d, &d->second, d->size);
	end(d, "the second GPU reads all of it");
	to_system(d);
}

static void demo_buffer(struct demo *d)
{
	size_t size = d->gpu.query.vram_size / 2;
	char *mem;

	if (size > 16 << 20)
		size = 16 << 20;
	heading("One buffer, and all that happens to it");
	mem = vsvm_alloc(size, d->gpu.query.chunk_size);
	if (!mem) {
		fail(d, "memory", -ENOMEM);
		return;
	}
	watch(d, mem, size);
	begin(d);
	end(d, "allocated");
	vsvm_fill(mem, size, 1);
	d->checksum = vsvm_checksum(mem, size);
	begin(d);
	end(d, "CPU fills it");
	expect(d, d->size, DRM_VSVM_PLACE_SYSTEM);

	demo_reads(d);
	demo_window(d);
	demo_second(d);
	demo_fork(d);
	demo_evict(d);
	demo_unbind(d);
	if (vsvm_verify(mem, size, 1) != -1)
		fail(d, "contents in the end", 0);
}

int main(void)
{
	struct demo d = { .page = getpagesize(), .second.fd = -1 };
	int ret;

	ret = open_devices(&d);
	if (ret) {
		fprintf(stderr, "no vsvm device: %s\n", strerror(-ret));
		return 1;
	}
	vsvm_gpu_open(&d.second, 1);
	printf("\nA GPU with %llu MiB of memory of its own, pages of %zu KiB.\n",
	       (unsigned long long)d.gpu.query.vram_size >> 20, d.page / 1024);
	printf("#  in the GPU's memory    -  in RAM    2  in the second GPU's    .  nowhere\n");
	demo_list(&d);
	demo_matrix(&d);
	demo_buffer(&d);

	printf("\n%llu GPU faults moved %lld pages, CPU faults took %lld back; %llu evictions\n",
	       (unsigned long long)d.total.gpu_faults, d.total.moved,
	       d.total.returned, (unsigned long long)d.total.evictions);
	if (d.failures)
		printf("%d checks failed\n", d.failures);
	else
		printf("All data was intact at every step.\n");
	return d.failures ? 1 : 0;
}
