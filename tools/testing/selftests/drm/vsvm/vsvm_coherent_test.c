// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of coherent device memory: the CPU accesses it in place, and everything
 * that works on the pages of a process finds it mapped like RAM.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <linux/const.h>
#include <linux/userfaultfd.h>

#include "../../../../../mm/gup_test.h"
#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#define TIMEOUT		180
#define NPAGES		64
#define PINNED		4
#define HUGE		(2UL << 20)

#define GUP_TEST	"/sys/kernel/debug/gup_test"
#define CGROUP		"/sys/fs/cgroup/vsvm_coherent_test"

#define PM_SOFT_DIRTY	_BITULL(55)
#define PM_UFFD_WP	_BITULL(57)

FIXTURE(coherent)
{
	struct vsvm_gpu gpu;
	size_t page;
	size_t size;
	char *mem;
};

FIXTURE_SETUP(coherent)
{
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	if (!vsvm_coherent(&self->gpu))
		SKIP(return, "the device has private memory");
	self->page = getpagesize();
	self->size = NPAGES * self->page;
	self->mem = vsvm_alloc(self->size, HUGE);
	ASSERT_NE(NULL, self->mem);
	vsvm_fill(self->mem, self->size, 1);
}

FIXTURE_TEARDOWN(coherent)
{
	munmap(self->mem, self->size);
	EXPECT_EQ(0, vsvm_wait_used_ms(self->gpu.fd, self->gpu.stats.vram_used,
				       10000));
	vsvm_gpu_close(&self->gpu);
}

static int to_device(const struct vsvm_gpu *gpu, void *mem, size_t size)
{
	return vsvm_prefetch(gpu, mem, size, DRM_VSVM_PLACE_DEVICE);
}

static int to_system(const struct vsvm_gpu *gpu, void *mem, size_t size)
{
	return vsvm_prefetch(gpu, mem, size, DRM_VSVM_PLACE_SYSTEM);
}

static long on_device(const struct vsvm_gpu *gpu, void *mem, size_t size)
{
	return vsvm_count(gpu, mem, size, DRM_VSVM_PLACE_DEVICE);
}

static long in_ram(const struct vsvm_gpu *gpu, void *mem, size_t size)
{
	return vsvm_count(gpu, mem, size, DRM_VSVM_PLACE_SYSTEM);
}

/* The device reads what the CPU has there. */
static int gpu_agrees(const struct vsvm_gpu *gpu, void *mem, size_t size)
{
	uint64_t sum;
	int ret = vsvm_gpu_checksum(gpu, mem, size, &sum);

	return ret ?: sum == vsvm_checksum(mem, size) ? 0 : -EILSEQ;
}

/* As much as can move to a place */
static int prefetch_some(const struct vsvm_gpu *gpu, void *mem, size_t size,
			 uint32_t place, struct drm_vsvm_prefetch *args)
{
	*args = (struct drm_vsvm_prefetch) {
		.vm_id = gpu->vm,
		.flags = DRM_VSVM_PREFETCH_PARTIAL,
		.start = (uintptr_t)mem,
		.size = size,
		.place = place,
	};

	return vsvm_ioctl(gpu->fd, DRM_IOCTL_VSVM_PREFETCH, args);
}

/* Have the device make room for memory as large as its own. */
static int fill_device(const struct vsvm_gpu *gpu)
{
	size_t size = gpu->query.vram_size;
	char *filler = vsvm_alloc(size, gpu->query.chunk_size);
	struct drm_vsvm_prefetch args;
	int ret;

	if (!filler)
		return -ENOMEM;
	ret = prefetch_some(gpu, filler, size, DRM_VSVM_PLACE_DEVICE, &args);
	munmap(filler, size);
	return ret;
}

/*
 * Access in place.
 */

/* Each sees what the other writes, and no page moves for that. */
TEST_F(coherent, in_place)
{
	long long faulted = vsvm_region_figure(0, "pages-faulted");
	long long evicted = vsvm_region_figure(0, "pages-evicted");
	struct drm_vsvm_stats before, after;
	int round;

	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	/* The device maps the memory once. */
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 1));
	ASSERT_EQ(0, vsvm_stats(self->gpu.fd, &before));
	for (round = 2; round < 10; round++) {
		vsvm_fill(self->mem, self->size, round);
		EXPECT_EQ(0, gpu_agrees(&self->gpu, self->mem, self->size));
		ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem,
					   self->size / 2, round));
		EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size / 2,
						round));
		EXPECT_EQ(0, gpu_agrees(&self->gpu, self->mem, self->size));
	}
	ASSERT_EQ(0, vsvm_stats(self->gpu.fd, &after));
	EXPECT_EQ(before.vram_used, after.vram_used);
	EXPECT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(faulted, vsvm_region_figure(0, "pages-faulted"));
	EXPECT_EQ(evicted, vsvm_region_figure(0, "pages-evicted"));
}

/* What was never touched, or only read, is zero there. */
TEST_F(coherent, zeroes)
{
	size_t half = self->size / 2, i;

	/* Something else in this memory first */
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_DONTNEED));
	ASSERT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	for (i = 0; i < half; i += self->page)
		vsvm_touch(self->mem + i);
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 0));
	EXPECT_EQ(0, gpu_agrees(&self->gpu, self->mem, self->size));
}

/* Each way is counted, and the contents are the latest ones. */
TEST_F(coherent, to_and_fro)
{
	struct drm_vsvm_prefetch args;
	int round;

	for (round = 2; round < 10; round++) {
		ASSERT_EQ(0, prefetch_some(&self->gpu, self->mem, self->size,
					   DRM_VSVM_PLACE_DEVICE, &args));
		EXPECT_EQ(NPAGES, args.moved);
		vsvm_fill(self->mem, self->size, round);
		ASSERT_EQ(0, prefetch_some(&self->gpu, self->mem, self->size,
					   DRM_VSVM_PLACE_DEVICE, &args));
		EXPECT_EQ(NPAGES, args.resident);
		ASSERT_EQ(0, prefetch_some(&self->gpu, self->mem, self->size,
					   DRM_VSVM_PLACE_SYSTEM, &args));
		EXPECT_EQ(NPAGES, args.moved);
		EXPECT_EQ(NPAGES, in_ram(&self->gpu, self->mem, self->size));
		EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, round));
		EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd,
					    self->gpu.stats.vram_used));
	}
}

/* The driver knows where each page is, to others it is simply present. */
TEST_F(coherent, residency)
{
	struct drm_vsvm_page where[NPAGES];
	uint8_t state[NPAGES];
	int i, bad = 0;
	char *start = self->mem + NPAGES / 4 * self->page;

	ASSERT_EQ(0, to_device(&self->gpu, start, self->size / 2));
	ASSERT_EQ(0, vsvm_residency(&self->gpu, self->mem, self->size, where));
	ASSERT_EQ(0, vsvm_pagemap(self->mem, NPAGES, state));
	for (i = 0; i < NPAGES; i++) {
		bad += where[i].place != (i >= NPAGES / 4 &&
					  i < NPAGES * 3 / 4 ?
					  DRM_VSVM_PLACE_DEVICE :
					  DRM_VSVM_PLACE_SYSTEM);
		bad += state[i] != VSVM_PAGEMAP_PRESENT;
	}
	EXPECT_EQ(0, bad);
}

/* The figure in KiB of the mapping at @mem, or -1 */
static long smaps_figure(const void *mem, const char *name)
{
	unsigned long start, end;
	size_t len = strlen(name);
	bool here = false;
	long value = -1;
	char line[256];
	FILE *file;

	file = fopen("/proc/self/smaps", "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start <= (uintptr_t)mem && (uintptr_t)mem < end;
		else if (here && !strncmp(line, name, len) && line[len] == ':')
			value = atol(line + len + 1);
	}
	fclose(file);
	return value;
}

TEST_F(coherent, smaps)
{
	long kib = self->size / 1024;

	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(kib, smaps_figure(self->mem, "Rss"));
	EXPECT_EQ(kib, smaps_figure(self->mem, "Anonymous"));
	EXPECT_EQ(0, smaps_figure(self->mem, "Swap"));
	ASSERT_EQ(0, to_system(&self->gpu, self->mem, self->size));
	EXPECT_EQ(kib, smaps_figure(self->mem, "Rss"));
}

/* Advice to reclaim does not concern it. */
TEST_F(coherent, is_not_reclaimed)
{
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_PAGEOUT));
	EXPECT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
}

/* A part that is discarded is free at once, and so is what is unmapped. */
TEST_F(coherent, discard_gives_back)
{
	uint64_t used = self->gpu.stats.vram_used;
	size_t part = self->size / 4;

	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, madvise(self->mem, part, MADV_DONTNEED));
	EXPECT_EQ((long)(3 * NPAGES / 4),
		  on_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, part, 0));
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_DONTNEED));
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, used));

	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, munmap(self->mem, self->size));
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, used));
}

/*
 * Changes of the mapping leave the pages where they are.
 */

TEST_F(coherent, fork)
{
	int go[2];
	char byte = 0;
	pid_t pid;

	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		vsvm_fill(self->mem, self->size / 2, 2);
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		if (vsvm_verify(self->mem, self->size / 2, 2) != -1)
			_exit(2);
		/* The parent's writes are its own. */
		vsvm_fill(self->mem, self->size, 1);
		_exit(0);
	}
	EXPECT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	/* One half by the CPU, the other one by the device */
	vsvm_fill(self->mem, self->size / 2, 3);
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem + self->size / 2,
				   self->size / 2, 4));
	ASSERT_EQ(1, write(go[1], &byte, 1));
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size / 2, 3));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem + self->size / 2,
					self->size / 2, 4));
	close(go[0]);
	close(go[1]);
}

/* Pages of both processes come back, for both. */
TEST_F(coherent, fork_then_evict)
{
	int go[2];
	char byte = 0;
	pid_t pid;

	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		_exit(vsvm_verify(self->mem, self->size, 1) != -1);
	}
	EXPECT_EQ(0, fill_device(&self->gpu));
	EXPECT_EQ(NPAGES, in_ram(&self->gpu, self->mem, self->size));
	memset(self->mem, 0, self->size);
	ASSERT_EQ(1, write(go[1], &byte, 1));
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 0));
	close(go[0]);
	close(go[1]);
}

TEST_F(coherent, mremap)
{
	char *moved = vsvm_alloc(self->size, HUGE);

	ASSERT_NE(NULL, moved);
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(moved, mremap(self->mem, self->size, self->size,
				MREMAP_MAYMOVE | MREMAP_FIXED, moved));
	self->mem = moved;
	EXPECT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	EXPECT_EQ(0, gpu_agrees(&self->gpu, self->mem, self->size));
	EXPECT_EQ(0, to_system(&self->gpu, self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
}

TEST_F(coherent, mprotect)
{
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, mprotect(self->mem, self->size, PROT_READ));
	EXPECT_EQ(0, gpu_agrees(&self->gpu, self->mem, self->size));
	EXPECT_EQ(EACCES, vsvm_gpu_fill(&self->gpu, self->mem, 8, 2));
	ASSERT_EQ(0, mprotect(self->mem, self->size, PROT_READ | PROT_WRITE));

	/* Anew, since memory that the device has used is not evicted soon */
	ASSERT_EQ(0, to_system(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, mprotect(self->mem, self->size, PROT_NONE));
	EXPECT_EQ(EACCES, vsvm_gpu_fill(&self->gpu, self->mem, 8, 2));
	/* It can leave the device nevertheless. */
	EXPECT_EQ(0, fill_device(&self->gpu));
	ASSERT_EQ(0, mprotect(self->mem, self->size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(NPAGES, in_ram(&self->gpu, self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
}

/* Writes of either are recorded, and the record comes back with the page. */
TEST_F(coherent, soft_dirty)
{
	size_t part = self->size / 4;

	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 1));
	ASSERT_EQ(0, vsvm_write_file("/proc/self/clear_refs", "4"));
	if (vsvm_count_bits(self->mem, NPAGES, PM_SOFT_DIRTY))
		SKIP(return, "no soft-dirty bits");
	vsvm_fill(self->mem, part, 2);
	EXPECT_EQ(NPAGES / 4, vsvm_count_bits(self->mem, NPAGES, PM_SOFT_DIRTY));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem + part, part, 3));
	EXPECT_EQ(NPAGES / 2, vsvm_count_bits(self->mem, NPAGES, PM_SOFT_DIRTY));
	EXPECT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, to_system(&self->gpu, self->mem, self->size));
	EXPECT_EQ(NPAGES / 2, vsvm_count_bits(self->mem, NPAGES, PM_SOFT_DIRTY));
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(NPAGES / 2, vsvm_count_bits(self->mem, NPAGES, PM_SOFT_DIRTY));
	EXPECT_EQ(-1, vsvm_verify(self->mem, part, 2));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem + part, part, 3));
}

/* Write protection holds there and back, also against the device. */
TEST_F(coherent, uffd_wp)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uintptr_t)self->mem, self->size },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)self->mem, self->size / 2 },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0)
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
	if (ioctl(fd, UFFDIO_REGISTER, &reg))
		SKIP(return, "no write protection");
	/* On the device, and before it goes there again */
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
	EXPECT_EQ(NPAGES / 2, vsvm_count_bits(self->mem, NPAGES, PM_UFFD_WP));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, self->mem, 8, 2));
	ASSERT_EQ(0, to_system(&self->gpu, self->mem, self->size));
	EXPECT_EQ(NPAGES / 2, vsvm_count_bits(self->mem, NPAGES, PM_UFFD_WP));
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(NPAGES / 2, vsvm_count_bits(self->mem, NPAGES, PM_UFFD_WP));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, self->mem, 8, 2));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem + self->size / 2,
				   self->size / 2, 3));
	wp.mode = 0;
	ASSERT_EQ(0, ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
	EXPECT_EQ(0, vsvm_count_bits(self->mem, NPAGES, PM_UFFD_WP));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size / 2, 1));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, 8, 2));
	close(fd);
}

/* In a child: its memory, there and back, written to in place */
static int move_in_cgroup(void)
{
	struct vsvm_gpu gpu;
	long before, after = 0;
	char *mem;
	int i;

	if (vsvm_write_file(CGROUP "/cgroup.procs", "0"))
		return 1;
	mem = vsvm_alloc(HUGE, HUGE);
	if (!mem || vsvm_no_huge(mem, HUGE) ||
	    vsvm_gpu_open(&gpu, 0))
		return 2;
	vsvm_fill(mem, HUGE, 3);
	/* The kernel adds up the figures of all CPUs now and then. */
	sleep(3);
	before = vsvm_file_figure(CGROUP "/memory.stat", "anon");
	for (i = 0; i < 9; i++) {
		if (to_device(&gpu, mem, HUGE))
			return 3;
		vsvm_fill(mem, HUGE, i);
		if (i % 2 && to_system(&gpu, mem, HUGE))
			return 4;
	}
	for (i = 0; i < 60; i++) {
		after = vsvm_file_figure(CGROUP "/memory.stat", "anon");
		if (labs(after - before) < 128 * 1024)
			break;
		usleep(100000);
	}
	printf("# %ld bytes charged before, %ld after\n", before, after);
	if (before < (long)HUGE)
		return 5;
	if (vsvm_verify(mem, HUGE, 8) != -1)
		return 6;
	return labs(after - before) < 128 * 1024 ? 0 : 7;
}

/* The charge stays with the memory, and goes away with it. */
TEST_F(coherent, memcg)
{
	pid_t pid;

	if (!vsvm_has_memcg())
		SKIP(return, "no memory cgroups of version 2");
	ASSERT_EQ(0, mkdir(CGROUP, 0755));
	pid = fork();
	if (!pid)
		_exit(move_in_cgroup());
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(0, vsvm_wait_figure(CGROUP "/memory.stat", "anon", 0));
	EXPECT_EQ(0, rmdir(CGROUP));
}

/*
 * Migration under way.
 */

struct writer {
	pthread_t thread;
	char *mem;
	size_t page;
	uint64_t count[NPAGES];
	atomic_bool stop;
	bool lost;
};

/* Counts in each page, with TLB entries as old as possible. */
static void *write_in_place(void *arg)
{
	struct writer *w = arg;
	uint64_t *word;
	size_t i, k;

	for (i = 0; !atomic_load(&w->stop) && !w->lost; i = (i + 1) % NPAGES) {
		word = (uint64_t *)(w->mem + i * w->page);
		for (k = 0; k < 100; k++) {
			if (__atomic_load_n(word, __ATOMIC_RELAXED) !=
			    w->count[i])
				w->lost = true;
			__atomic_store_n(word, ++w->count[i],
					 __ATOMIC_RELAXED);
		}
	}
	return NULL;
}

static int start_writer(struct _test_data_coherent *self, struct writer *w)
{
	size_t i;

	*w = (struct writer) { .mem = self->mem, .page = self->page };
	for (i = 0; i < NPAGES; i++)
		*(uint64_t *)(self->mem + i * self->page) = 0;
	return pthread_create(&w->thread, NULL, write_in_place, w);
}

/* Whether no write was lost */
static bool stop_writer(struct writer *w)
{
	size_t i;

	atomic_store(&w->stop, true);
	pthread_join(w->thread, NULL);
	for (i = 0; i < NPAGES; i++)
		if (*(uint64_t *)(w->mem + i * w->page) != w->count[i])
			return false;
	return !w->lost;
}

/* The CPU writes all the time: there, on the way, and after return. */
TEST_F_TIMEOUT(coherent, no_write_is_lost, TIMEOUT)
{
	double end = vsvm_now_ms() + 3000;
	struct drm_vsvm_prefetch args;
	struct writer writer;
	int ret = 0, i;

	ASSERT_EQ(0, start_writer(self, &writer));
	for (i = 0; !ret && (i < 20 || vsvm_now_ms() < end); i++) {
		ret = prefetch_some(&self->gpu, self->mem, self->size,
				    DRM_VSVM_PLACE_DEVICE, &args);
		if (!ret && i % 4 == 3)
			ret = fill_device(&self->gpu);
		else if (!ret)
			ret = prefetch_some(&self->gpu, self->mem, self->size,
					    DRM_VSVM_PLACE_SYSTEM, &args);
	}
	EXPECT_EQ(0, ret);
	EXPECT_TRUE(stop_writer(&writer));
}

/* Memory that others need comes back as the CPU left it. */
TEST_F_TIMEOUT(coherent, eviction, TIMEOUT)
{
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	vsvm_fill(self->mem, self->size, 2);
	ASSERT_EQ(0, fill_device(&self->gpu));
	EXPECT_EQ(NPAGES, in_ram(&self->gpu, self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 2));
}

/* The device goes away and comes back, and the CPU writes all the time. */
TEST_F_TIMEOUT(coherent, unplug, TIMEOUT)
{
	struct writer writer;
	int i;

	ASSERT_EQ(0, start_writer(self, &writer));
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, vsvm_gpu_copy(&self->gpu, self->mem + 64,
					   self->mem + 128, 64));
		ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
		vsvm_gpu_close(&self->gpu);
		ASSERT_EQ(0, vsvm_bind(0, false));
		ASSERT_EQ(0, vsvm_bind(0, true));
		ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
		EXPECT_EQ(0, self->gpu.stats.vram_used);
		EXPECT_EQ(NPAGES, in_ram(&self->gpu, self->mem, self->size));
	}
	EXPECT_TRUE(stop_writer(&writer));
}

/*
 * Pins.
 */

/* Puts the first pages into a pipe. */
static int pin(struct _test_data_coherent *self, int *fd)
{
	struct iovec iov = { self->mem, PINNED * self->page };
	ssize_t n;

	if (pipe(fd))
		return -errno;
	n = vmsplice(fd[1], &iov, 1, 0);
	return n == (ssize_t)iov.iov_len ? 0 : -EIO;
}

/* Reads what is in the pipe, which is what is in memory now. */
static int unpin(struct _test_data_coherent *self, int *fd)
{
	size_t size = PINNED * self->page;
	char *copy = malloc(size);
	int ret = 0;

	if (!copy || read(fd[0], copy, size) != (ssize_t)size ||
	    memcmp(copy, self->mem, size))
		ret = -EILSEQ;
	free(copy);
	close(fd[0]);
	close(fd[1]);
	return ret;
}

/* A page in a pipe is pinned where it is, and written to there. */
TEST_F_TIMEOUT(coherent, short_pin, TIMEOUT)
{
	struct drm_vsvm_prefetch args;
	int fd[2];

	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, pin(self, fd));
	EXPECT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));

	EXPECT_EQ(-EBUSY, to_system(&self->gpu, self->mem, self->size));
	EXPECT_EQ(0, prefetch_some(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_SYSTEM, &args));
	EXPECT_EQ(PINNED, args.left);
	EXPECT_EQ(0, fill_device(&self->gpu));
	EXPECT_EQ(PINNED, on_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->page, 2));
	vsvm_fill(self->mem + self->page, self->page, 3);

	EXPECT_EQ(0, unpin(self, fd));
	EXPECT_EQ(0, to_system(&self->gpu, self->mem, self->size));
	EXPECT_EQ(NPAGES, in_ram(&self->gpu, self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->page, 2));
	EXPECT_EQ(-1, vsvm_verify(self->mem + self->page, self->page, 3));
}

struct unbinder {
	pthread_t thread;
	atomic_bool done;
	int ret;
};

static void *unbind(void *arg)
{
	struct unbinder *u = arg;

	u->ret = vsvm_bind(0, false);
	atomic_store(&u->done, true);
	return NULL;
}

/* The device does not go before the end of the pin. */
TEST_F_TIMEOUT(coherent, unplug_waits_for_pin, TIMEOUT)
{
	struct unbinder unbinder = {};
	int fd[2];

	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, pin(self, fd));
	ASSERT_EQ(0, pthread_create(&unbinder.thread, NULL, unbind, &unbinder));
	usleep(1000 * 1000);
	EXPECT_FALSE(atomic_load(&unbinder.done));
	vsvm_fill(self->mem, self->size, 2);
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 2));
	EXPECT_EQ(0, unpin(self, fd));
	ASSERT_EQ(0, pthread_join(unbinder.thread, NULL));
	EXPECT_EQ(0, unbinder.ret);
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 2));

	vsvm_gpu_close(&self->gpu);
	ASSERT_EQ(0, vsvm_bind(0, true));
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	EXPECT_EQ(0, gpu_agrees(&self->gpu, self->mem, self->size));
}

FIXTURE(longterm)
{
	struct vsvm_gpu gpu;
	size_t page;
	size_t size;
	char *mem;
	int file;
};

FIXTURE_VARIANT(longterm)
{
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(longterm, read) { .flags = 0 };
FIXTURE_VARIANT_ADD(longterm, write) {
	.flags = PIN_LONGTERM_TEST_FLAG_USE_WRITE,
};

FIXTURE_VARIANT_ADD(longterm, fast) {
	.flags = PIN_LONGTERM_TEST_FLAG_USE_WRITE |
		 PIN_LONGTERM_TEST_FLAG_USE_FAST,
};

FIXTURE_SETUP(longterm)
{
	self->file = -1;
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	if (!vsvm_coherent(&self->gpu))
		SKIP(return, "the device has private memory");
	self->file = open(GUP_TEST, O_RDWR | O_CLOEXEC);
	if (self->file < 0)
		SKIP(return, "needs CONFIG_GUP_TEST, and the right to use it");
	self->page = getpagesize();
	self->size = NPAGES * self->page;
	self->mem = vsvm_alloc(self->size, HUGE);
	ASSERT_NE(NULL, self->mem);
	vsvm_fill(self->mem, self->size, 1);
}

FIXTURE_TEARDOWN(longterm)
{
	close(self->file);
	munmap(self->mem, self->size);
	EXPECT_EQ(0, vsvm_wait_used_ms(self->gpu.fd, self->gpu.stats.vram_used,
				       10000));
	vsvm_gpu_close(&self->gpu);
}

static int pin_longterm(int file, void *mem, size_t size, uint32_t flags)
{
	struct pin_longterm_test args = {
		.addr = (uintptr_t)mem,
		.size = size,
		.flags = flags,
	};

	return ioctl(file, PIN_LONGTERM_TEST_START, &args) ? -errno : 0;
}

/* What the pinned pages contain */
static int read_pinned(int file, char *copy)
{
	uint64_t addr = (uintptr_t)copy;

	return ioctl(file, PIN_LONGTERM_TEST_READ, &addr) ? -errno : 0;
}

static int unpin_longterm(int file)
{
	return ioctl(file, PIN_LONGTERM_TEST_STOP) ? -errno : 0;
}

/* The pages come to RAM first, and stay there until the end of the pin. */
TEST_F(longterm, moves_out)
{
	size_t part = self->size / 2;
	struct drm_vsvm_prefetch args;
	char *copy = malloc(part);

	ASSERT_NE(NULL, copy);
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, part / 2, 2));
	vsvm_fill(self->mem + part / 2, part / 2, 3);
	ASSERT_EQ(0, pin_longterm(self->file, self->mem, part, variant->flags));
	EXPECT_EQ(NPAGES / 2, in_ram(&self->gpu, self->mem, part));
	EXPECT_EQ(NPAGES / 2, on_device(&self->gpu, self->mem, self->size));

	EXPECT_EQ(0, prefetch_some(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_DEVICE, &args));
	EXPECT_EQ(NPAGES / 2, args.left);
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, 8, 4));
	EXPECT_EQ(0, read_pinned(self->file, copy));
	EXPECT_EQ(0, memcmp(copy, self->mem, part));
	EXPECT_EQ(4, *(uint64_t *)copy);
	EXPECT_EQ(-1, vsvm_verify_value(copy + 8, part / 2 - 8, 2));
	EXPECT_EQ(-1, vsvm_verify(copy + part / 2, part / 2, 3));

	EXPECT_EQ(0, unpin_longterm(self->file));
	EXPECT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(0, gpu_agrees(&self->gpu, self->mem, self->size));
	free(copy);
}

/* Memory that was free, and then written to by the device, is not lost. */
TEST_F(longterm, after_free)
{
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_FREE));
	/* Pages on their way between lists are neither free nor do they move. */
	vsvm_write_file("/proc/sys/vm/compact_memory", "1");
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 5));
	ASSERT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, pin_longterm(self->file, self->mem, self->size,
				  variant->flags));
	EXPECT_EQ(0, unpin_longterm(self->file));
	EXPECT_EQ(NPAGES, in_ram(&self->gpu, self->mem, self->size));
	/* Nobody has read it since. */
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_PAGEOUT));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 5));
}

/* Shared since fork(): it comes out for both processes. */
TEST_F(longterm, of_shared_pages)
{
	int go[2];
	char byte = 0;
	pid_t pid;

	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		_exit(vsvm_verify(self->mem, self->size, 1) != -1);
	}
	ASSERT_EQ(0, pin_longterm(self->file, self->mem, self->size,
				  variant->flags));
	EXPECT_EQ(NPAGES, in_ram(&self->gpu, self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	memset(self->mem, 0, self->size);
	ASSERT_EQ(1, write(go[1], &byte, 1));
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(0, unpin_longterm(self->file));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 0));
	close(go[0]);
	close(go[1]);
}

struct mover {
	pthread_t thread;
	struct _test_data_longterm *self;
	uint64_t added;
	atomic_bool stop;
	int ret;
};

/* One more in the first word, none of which is lost */
static int add_one(struct mover *m)
{
	uint64_t old;
	int ret;

	ret = vsvm_gpu_add(&m->self->gpu, m->self->mem, 1, &old);
	if (!ret && old != m->added)
		ret = -EILSEQ;
	m->added++;
	return ret;
}

static void *keep_moving(void *arg)
{
	struct mover *m = arg;
	struct drm_vsvm_prefetch args;

	while (!m->ret && !atomic_load(&m->stop)) {
		m->ret = add_one(m);
		if (m->ret)
			break;
		m->ret = prefetch_some(&m->self->gpu, m->self->mem,
				       m->self->size, DRM_VSVM_PLACE_DEVICE,
				       &args);
	}
	return NULL;
}

/* What is pinned is what the process has, also if a page had to be waited for. */
TEST_F_TIMEOUT(longterm, while_moving, TIMEOUT)
{
	struct mover mover = { .self = self };
	double end = vsvm_now_ms() + 2000;
	size_t size = self->size - self->page;
	char *copy = malloc(self->size);
	char *mem = self->mem + self->page;
	int round, pinned = 0, ret;

	ASSERT_NE(NULL, copy);
	*(uint64_t *)self->mem = 0;
	ASSERT_EQ(0, pthread_create(&mover.thread, NULL, keep_moving, &mover));
	for (round = 0; round < 10 || vsvm_now_ms() < end; round++) {
		vsvm_fill(mem, size, round);
		ret = pin_longterm(self->file, self->mem, self->size,
				   variant->flags);
		/* A page that is on its way at this moment */
		if (ret == -EBUSY || ret == -EAGAIN)
			continue;
		ASSERT_EQ(0, ret);
		pinned++;
		ASSERT_EQ(0, read_pinned(self->file, copy));
		EXPECT_EQ(-1, vsvm_verify(copy + self->page, size, round));
		ASSERT_EQ(0, unpin_longterm(self->file));
	}
	atomic_store(&mover.stop, true);
	ASSERT_EQ(0, pthread_join(mover.thread, NULL));
	EXPECT_EQ(0, mover.ret);
	EXPECT_LT(0, pinned);
	TH_LOG("%d of %d rounds", pinned, round);
	EXPECT_EQ(-1, vsvm_verify(mem, size, round - 1));
	EXPECT_EQ(mover.added, *(uint64_t *)self->mem);
	free(copy);
}

/* A page in a pipe cannot come out, so the pin fails and changes nothing. */
TEST_F(longterm, of_pinned_page)
{
	struct iovec iov = { self->mem, self->page };
	int fd[2];

	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, pipe(fd));
	ASSERT_EQ((ssize_t)self->page, vmsplice(fd[1], &iov, 1, 0));
	EXPECT_GT(0, pin_longterm(self->file, self->mem, self->page,
				  variant->flags));
	EXPECT_EQ(1, on_device(&self->gpu, self->mem, self->page));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	close(fd[0]);
	close(fd[1]);
	EXPECT_EQ(0, pin_longterm(self->file, self->mem, self->page,
				  variant->flags));
	EXPECT_EQ(1, in_ram(&self->gpu, self->mem, self->page));
	EXPECT_EQ(0, unpin_longterm(self->file));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
}

/*
 * Two devices.
 */

FIXTURE(pair)
{
	struct vsvm_gpu gpu[2];
	size_t page;
	size_t size;
	char *mem;
};

FIXTURE_VARIANT(pair)
{
	bool same;	/* both have coherent memory */
	bool peers;
};

FIXTURE_VARIANT_ADD(pair, coherent) { .same = true, .peers = true };
FIXTURE_VARIANT_ADD(pair, coherent_apart) { .same = true };
FIXTURE_VARIANT_ADD(pair, mixed) { .peers = true };
FIXTURE_VARIANT_ADD(pair, mixed_apart) { };

FIXTURE_SETUP(pair)
{
	bool found = false;
	int i, ret = 0;

	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu[0], 0));
	if (!vsvm_coherent(&self->gpu[0]))
		SKIP(return, "the device has private memory");
	for (i = 1; !ret && !found; i++) {
		ret = vsvm_gpu_open(&self->gpu[1], i);
		if (ret)
			break;
		found = vsvm_coherent(&self->gpu[1]) == variant->same;
		if (!found)
			vsvm_gpu_close(&self->gpu[1]);
	}
	if (!found)
		SKIP(return, "no such pair of devices");
	ASSERT_EQ(0, vsvm_set_peers(variant->peers));
	self->page = getpagesize();
	self->size = NPAGES * self->page;
	self->mem = vsvm_alloc(self->size, HUGE);
	ASSERT_NE(NULL, self->mem);
	vsvm_fill(self->mem, self->size, 1);
}

FIXTURE_TEARDOWN(pair)
{
	int i;

	munmap(self->mem, self->size);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, vsvm_wait_used_ms(self->gpu[i].fd,
					       self->gpu[i].stats.vram_used,
					       10000));
		vsvm_gpu_close(&self->gpu[i]);
	}
	vsvm_set_peers(true);
}

/* From one to the other and back, written to by all */
TEST_F(pair, to_and_fro)
{
	struct vsvm_gpu *gpu;
	int i;

	for (i = 0; i < 8; i++) {
		gpu = &self->gpu[i % 2];
		ASSERT_EQ(0, to_device(gpu, self->mem, self->size));
		ASSERT_EQ(NPAGES, on_device(gpu, self->mem, self->size));
		ASSERT_EQ(0, vsvm_gpu_fill(gpu, self->mem, self->size / 2, i));
		/* In place, or the CPU takes the page back. */
		if (i % 3 == 2)
			vsvm_fill(self->mem + self->size / 2, self->size / 2, i);
	}
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size / 2, 7));
	EXPECT_EQ(-1, vsvm_verify(self->mem + self->size / 2, self->size / 2,
				  5));
}

/* Each reads and writes the memory of the other, wherever that moves it. */
TEST_F(pair, use_each_other)
{
	int i;

	for (i = 0; i < 2; i++) {
		vsvm_fill(self->mem, self->size, i);
		ASSERT_EQ(0, to_device(&self->gpu[i], self->mem, self->size));
		EXPECT_EQ(0, gpu_agrees(&self->gpu[!i], self->mem, self->size));
		EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, i));
		ASSERT_EQ(0, to_device(&self->gpu[i], self->mem, self->size));
		EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu[!i], self->mem,
					   self->size, 10 + i));
		EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu[i], self->mem,
					   self->page, 20 + i));
		EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->page, 20 + i));
		EXPECT_EQ(-1, vsvm_verify_value(self->mem + self->page,
						self->size - self->page,
						10 + i));
	}
}

/* Untouched, in RAM, and on either device, page by page */
static int mix(struct _test_data_pair *self)
{
	size_t i;
	char *p;
	int ret = 0;

	if (madvise(self->mem, self->size, MADV_DONTNEED))
		return -errno;
	for (i = 0; i < NPAGES && !ret; i++) {
		p = self->mem + i * self->page;
		if (i % 4)
			vsvm_fill(p, self->page, i);
		if (i % 4 >= 2)
			ret = to_device(&self->gpu[i % 4 - 2], p, self->page);
	}
	return ret;
}

static int check_mix(struct _test_data_pair *self)
{
	size_t i;
	char *p;

	for (i = 0; i < NPAGES; i++) {
		p = self->mem + i * self->page;
		if ((i % 4 ? vsvm_verify(p, self->page, i) :
			     vsvm_verify_value(p, self->page, 0)) != -1)
			return -EILSEQ;
	}
	return 0;
}

TEST_F(pair, mixture)
{
	int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, mix(self));
		EXPECT_EQ(NPAGES / 4, on_device(&self->gpu[i], self->mem,
						self->size));
		EXPECT_EQ(NPAGES / 4, vsvm_count(&self->gpu[i], self->mem,
						 self->size,
						 DRM_VSVM_PLACE_PEER));
		EXPECT_EQ(0, gpu_agrees(&self->gpu[i], self->mem, self->size));
		EXPECT_EQ(0, check_mix(self));

		ASSERT_EQ(0, mix(self));
		ASSERT_EQ(0, to_device(&self->gpu[i], self->mem, self->size));
		EXPECT_EQ(NPAGES, on_device(&self->gpu[i], self->mem,
					    self->size));
		EXPECT_EQ(0, check_mix(self));

		ASSERT_EQ(0, mix(self));
		ASSERT_EQ(0, to_system(&self->gpu[i], self->mem, self->size));
		EXPECT_EQ(NPAGES * 3 / 4, in_ram(&self->gpu[i], self->mem,
						 self->size));
		EXPECT_EQ(0, check_mix(self));

		/* Without a move: preferred in RAM, but where it is */
		ASSERT_EQ(0, mix(self));
		ASSERT_EQ(0, vsvm_advise(&self->gpu[i], self->mem, self->size,
					 DRM_VSVM_ADVICE_SYSTEM));
		EXPECT_EQ(0, gpu_agrees(&self->gpu[i], self->mem, self->size));
		EXPECT_EQ(0, check_mix(self));
		ASSERT_EQ(0, vsvm_advise(&self->gpu[i], self->mem, self->size,
					 DRM_VSVM_ADVICE_DEFAULT));
	}
}

/* The coherent device goes while the other one has its memory mapped. */
TEST_F_TIMEOUT(pair, unplug, TIMEOUT)
{
	ASSERT_EQ(0, mix(self));
	EXPECT_EQ(0, gpu_agrees(&self->gpu[1], self->mem, self->size));
	ASSERT_EQ(0, mix(self));
	vsvm_gpu_close(&self->gpu[0]);
	ASSERT_EQ(0, vsvm_bind(0, false));
	EXPECT_EQ(0, check_mix(self));
	EXPECT_EQ(0, gpu_agrees(&self->gpu[1], self->mem, self->size));
	ASSERT_EQ(0, vsvm_bind(0, true));
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu[0], 0));
	EXPECT_EQ(0, gpu_agrees(&self->gpu[0], self->mem, self->size));
	EXPECT_EQ(0, check_mix(self));
}

TEST_HARNESS_MAIN
