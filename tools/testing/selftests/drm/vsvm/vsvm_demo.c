// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shows what happens to the memory of a process when a GPU, here the virtual
 * one of vsvm, takes it into its own memory.
 *
 * After each step, where the pages are according to the driver is compared with
 * what /proc/self/pagemap says, and then the contents with what was written.
 * Any difference makes the program fail.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "vsvm_util.h"

#define BAR_WIDTH	24
#define MiB		(1024.0 * 1024.0)

struct demo {
	int fd;
	uint32_t vm;
	unsigned int device;
	size_t page_size;
	struct drm_vsvm_query query;

	/* The memory that it is about, and what should be in it. */
	char *mem;
	size_t size;
	uint64_t checksum;

	/* For the running step. */
	double began;
	double took;
	int failures;
};

struct residency {
	struct drm_vsvm_page *pages;
	uint8_t *pagemap;
	size_t npages;
	size_t ram;
	size_t device;
	size_t none;
	bool agree;
};

static void fail(struct demo *d, const char *what, int err)
{
	printf("  ** %s: %s\n", what, err ? strerror(-err) : "wrong");
	d->failures++;
}

static void begin(struct demo *d)
{
	d->began = vsvm_now_ms();
}

static void end(struct demo *d)
{
	d->took = vsvm_now_ms() - d->began;
}

static void count_page(struct residency *r, size_t i)
{
	int want;

	switch (r->pages[i].place) {
	case DRM_VSVM_PLACE_SYSTEM:
		r->ram++;
		want = VSVM_PAGEMAP_PRESENT;
		break;
	case DRM_VSVM_PLACE_DEVICE:
	case DRM_VSVM_PLACE_PEER:
		r->device++;
		want = VSVM_PAGEMAP_SWAPPED;
		break;
	default:
		r->none++;
		/* Memory that is really swapped out is nowhere, too. */
		want = r->pagemap[i] == VSVM_PAGEMAP_SWAPPED ?
		       VSVM_PAGEMAP_SWAPPED : VSVM_PAGEMAP_NONE;
	}
	if (r->pagemap[i] != want)
		r->agree = false;
}

static int look(struct demo *d, struct residency *r)
{
	size_t i;
	int ret;

	memset(r, 0, sizeof(*r));
	r->npages = d->size / d->page_size;
	r->pages = calloc(r->npages, sizeof(*r->pages));
	r->pagemap = calloc(r->npages, sizeof(*r->pagemap));
	if (!r->pages || !r->pagemap)
		return -ENOMEM;

	ret = vsvm_pagemap(d->mem, r->npages, r->pagemap);
	if (ret)
		return ret;

	ret = vsvm_residency(d->fd, d->vm, d->mem, d->size, r->pages);
	r->agree = !ret;
	for (i = 0; i < r->npages && !ret; i++)
		count_page(r, i);

	/* Without the device, there is one witness left. */
	for (i = 0; i < r->npages && ret == -ENODEV; i++) {
		r->ram += r->pagemap[i] == VSVM_PAGEMAP_PRESENT;
		r->none += r->pagemap[i] != VSVM_PAGEMAP_PRESENT;
		r->pages[i].place = r->pagemap[i] == VSVM_PAGEMAP_PRESENT ?
				    DRM_VSVM_PLACE_SYSTEM : DRM_VSVM_PLACE_NONE;
	}
	return ret == -ENODEV ? 0 : ret;
}

/* One character for each part of the memory: where most of its pages are. */
static void make_bar(const struct residency *r, char *bar)
{
	size_t i, c, first, last, ram, dev;

	for (c = 0; c < BAR_WIDTH; c++) {
		first = c * r->npages / BAR_WIDTH;
		last = (c + 1) * r->npages / BAR_WIDTH;
		ram = 0;
		dev = 0;
		for (i = first; i < last; i++) {
			ram += r->pages[i].place == DRM_VSVM_PLACE_SYSTEM;
			dev += r->pages[i].place == DRM_VSVM_PLACE_DEVICE;
		}
		if (dev > ram)
			bar[c] = '#';
		else
			bar[c] = ram ? '-' : '.';
	}
	bar[BAR_WIDTH] = '\0';
}

static void table_head(const struct demo *d)
{
	printf("\nvsvm.%u: %.0f MiB of device memory, pages of %zu KiB, allocations up to %u KiB\n",
	       d->device, d->query.vram_size / MiB, d->page_size / 1024,
	       d->query.chunk_size / 1024);
	printf("\n%-43s %6s %6s %6s  %-*s %8s %9s  %-7s %s\n", "", "pages",
	       "", "", BAR_WIDTH, "# device  - RAM  . none", "device", "", "", "");
	printf("%-43s %6s %6s %6s  %-*s %8s %9s  %-7s %s\n", "step", "RAM",
	       "device", "none", BAR_WIDTH, "start to end of memory",
	       "use MiB", "time ms", "pagemap", "data");
	printf("%.43s %.20s  %.*s %.18s  %.7s %.4s\n",
	       "--------------------------------------------",
	       "-------------------------------", BAR_WIDTH,
	       "-------------------------------",
	       "-------------------------------",
	       "-------", "----");
}

/*
 * Print what a step led to, then verify the data, which brings it back to RAM.
 * @want: the place where @count pages must be, or -1.
 */
static void show(struct demo *d, const char *step, int want, size_t count)
{
	char bar[BAR_WIDTH + 1], use[16] = "-";
	struct drm_vsvm_query query;
	struct residency r;
	const char *agree;
	bool data_ok;
	int ret;

	ret = look(d, &r);
	if (ret) {
		fail(d, "residency", ret);
		goto out;
	}
	if (!vsvm_query(d->fd, &query))
		snprintf(use, sizeof(use), "%.1f", query.vram_used / MiB);
	make_bar(&r, bar);

	agree = strcmp(use, "-") ? (r.agree ? "agrees" : "DIFFERS") : "alone";
	data_ok = !d->checksum || vsvm_checksum(d->mem, d->size) == d->checksum;
	printf("%-43s %6zu %6zu %6zu  %s %8s %9.2f  %-7s %s\n", step, r.ram,
	       r.device, r.none, bar, use, d->took, agree,
	       !d->checksum ? "-" : data_ok ? "ok" : "BAD");
	fflush(stdout);

	if (!data_ok)
		fail(d, "contents", 0);
	if (!strcmp(agree, "DIFFERS"))
		fail(d, "/proc/self/pagemap", 0);
	if ((want == DRM_VSVM_PLACE_SYSTEM && r.ram != count) ||
	    (want == DRM_VSVM_PLACE_DEVICE && r.device != count) ||
	    (want == DRM_VSVM_PLACE_NONE && r.none != count))
		fail(d, "where the pages are", 0);
out:
	free(r.pages);
	free(r.pagemap);
}

static size_t all(const struct demo *d)
{
	return d->size / d->page_size;
}

static int prefetch(struct demo *d, size_t offset, size_t size, uint32_t place,
		    size_t window)
{
	struct drm_vsvm_prefetch args = {
		.vm_id = d->vm,
		.start = (uintptr_t)d->mem + offset,
		.size = size,
		.place = place,
		.fault_window = window,
	};
	int ret;

	ret = vsvm_ioctl(d->fd, DRM_IOCTL_VSVM_PREFETCH, &args);
	if (ret)
		fail(d, "prefetch", ret);
	return ret;
}

static void to_device(struct demo *d, size_t window)
{
	prefetch(d, 0, d->size, DRM_VSVM_PLACE_DEVICE, window);
}

static int open_device(struct demo *d)
{
	int ret;

	d->fd = vsvm_open(d->device);
	if (d->fd < 0)
		return d->fd;

	ret = vsvm_query(d->fd, &d->query);
	return ret ? ret : vsvm_vm_create(d->fd, &d->vm);
}

static int allocate(struct demo *d, size_t size)
{
	d->size = size;
	d->checksum = 0;
	d->mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return d->mem == MAP_FAILED ? -errno : 0;
}

static void fill(struct demo *d, uint64_t seed)
{
	vsvm_fill(d->mem, d->size, seed);
	d->checksum = vsvm_checksum(d->mem, d->size);
}

static void touch(struct demo *d, size_t npages)
{
	size_t i;

	for (i = 0; i < npages; i++)
		vsvm_touch(d->mem + i * d->page_size);
}

static int demo_prefetch(struct demo *d)
{
	size_t size = 8 << 20;
	int ret;

	if (size > d->query.vram_size / 2)
		size = d->query.vram_size / 2;

	begin(d);
	ret = allocate(d, size);
	if (ret) {
		fail(d, "mmap", ret);
		return ret;
	}
	end(d);
	show(d, "allocate memory", DRM_VSVM_PLACE_NONE, all(d));

	begin(d);
	fill(d, 1);
	end(d);
	show(d, "fill it", DRM_VSVM_PLACE_SYSTEM, all(d));

	begin(d);
	to_device(d, 0);
	end(d);
	show(d, "prefetch to the device", DRM_VSVM_PLACE_DEVICE, all(d));
	return 0;
}

static void demo_faults(struct demo *d)
{
	size_t chunk = d->query.chunk_size / d->page_size;
	size_t few = all(d) / 2 < 64 ? all(d) / 2 : 64;

	to_device(d, 0);
	begin(d);
	touch(d, all(d));
	end(d);
	show(d, "  CPU reads all, allocation by allocation",
	     DRM_VSVM_PLACE_SYSTEM, all(d));

	to_device(d, d->page_size);
	begin(d);
	touch(d, all(d));
	end(d);
	show(d, "  CPU reads all, page by page", DRM_VSVM_PLACE_SYSTEM, all(d));

	/* The first allocation ends where the chunk does. */
	chunk -= ((uintptr_t)d->mem / d->page_size) % chunk;
	to_device(d, 0);
	begin(d);
	touch(d, 1);
	end(d);
	show(d, "  CPU reads 1 page, window: allocation",
	     DRM_VSVM_PLACE_SYSTEM, chunk < all(d) ? chunk : all(d));

	to_device(d, d->page_size);
	begin(d);
	touch(d, few);
	end(d);
	show(d, "  CPU reads some pages, window: page",
	     DRM_VSVM_PLACE_SYSTEM, few);

	to_device(d, 0);
	begin(d);
	prefetch(d, 0, d->size, DRM_VSVM_PLACE_SYSTEM, 0);
	end(d);
	show(d, "prefetch back to system memory", DRM_VSVM_PLACE_SYSTEM, all(d));
}

/* The child has its own view of the memory, and of the device. */
static int demo_child(struct demo *d)
{
	d->failures = 0;
	if (vsvm_vm_create(d->fd, &d->vm))
		fail(d, "VM of the child", 0);
	show(d, "  child: shares it with its parent", DRM_VSVM_PLACE_DEVICE,
	     all(d));

	begin(d);
	vsvm_fill(d->mem, d->size / 2, 3);
	end(d);
	d->checksum = vsvm_checksum(d->mem, d->size);
	show(d, "  child: writes to the first half", DRM_VSVM_PLACE_SYSTEM,
	     all(d));
	return d->failures ? 1 : 0;
}

static void demo_fork(struct demo *d)
{
	int status = -1;
	pid_t pid;

	to_device(d, 0);
	fflush(stdout);
	begin(d);
	pid = fork();
	end(d);
	if (!pid)
		_exit(demo_child(d));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		fail(d, "child", 0);
	show(d, "fork: parent after the child's writes", -1, 0);

	to_device(d, 0);
	begin(d);
	fill(d, 4);
	end(d);
	show(d, "  parent: writes to all", DRM_VSVM_PLACE_SYSTEM, all(d));
}

static void demo_eviction(struct demo *d)
{
	size_t piece = d->size, done;
	struct demo big = *d;
	char step[48];

	if (allocate(&big, (d->query.vram_size + d->query.vram_size / 2) /
			   piece * piece)) {
		fail(d, "mmap", -errno);
		return;
	}
	fill(&big, 5);

	begin(&big);
	for (done = 0; done < big.size; done += piece)
		if (prefetch(&big, done, piece, DRM_VSVM_PLACE_DEVICE, 0))
			break;
	end(&big);
	snprintf(step, sizeof(step), "prefetch %.0f MiB, more than there is",
		 big.size / MiB);
	show(&big, step, DRM_VSVM_PLACE_DEVICE,
	     d->query.vram_size / d->page_size);
	munmap(big.mem, big.size);
	d->failures = big.failures;
}

static void demo_unbind(struct demo *d)
{
	struct drm_vsvm_query query;
	int ret;

	to_device(d, 0);
	begin(d);
	ret = vsvm_bind(d->device, false);
	end(d);
	if (ret) {
		fail(d, "unbind", ret);
		return;
	}
	show(d, "unbind the device, memory in use", DRM_VSVM_PLACE_SYSTEM,
	     all(d));

	ret = vsvm_query(d->fd, &query);
	if (ret != -ENODEV)
		fail(d, "ioctl without a device", ret);
	else
		printf("  (ioctl: %s)\n", strerror(-ret));
	close(d->fd);

	begin(d);
	ret = vsvm_bind(d->device, true);
	if (!ret)
		ret = open_device(d);
	if (ret) {
		fail(d, "bind", ret);
		return;
	}
	to_device(d, 0);
	end(d);
	show(d, "bind it, open it, prefetch", DRM_VSVM_PLACE_DEVICE, all(d));
}

int main(int argc, char **argv)
{
	struct demo d = {
		.device = argc > 1 ? strtoul(argv[1], NULL, 0) : 0,
		.page_size = getpagesize(),
	};
	int ret;

	ret = open_device(&d);
	if (ret) {
		fprintf(stderr, "no vsvm device %u: %s\n", d.device,
			strerror(-ret));
		return 1;
	}

	table_head(&d);
	if (!demo_prefetch(&d)) {
		demo_faults(&d);
		demo_fork(&d);
		demo_eviction(&d);
		demo_unbind(&d);
	}

	if (d.failures)
		printf("\n%d checks failed\n", d.failures);
	else
		printf("\nAll data was intact at every step.\n");
	return d.failures ? 1 : 0;
}
