// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests with all kinds of memory of a process, and with all that it does to it,
 * while the device uses it.  The contents are checked to the word; the location
 * is asked from both the driver and the kernel.
 */

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/userfaultfd.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB	(21 << 26)
#endif

#define TIMEOUT		180
#define MiB		(1024UL * 1024)

/*
 * Kinds of memory.
 */

enum where {
	MOVES,		/* to the device when it is accessed */
	STAYS,		/* in system memory */
};

FIXTURE(kind)
{
	struct vsvm_gpu gpu;
	size_t page;
	uint64_t *mem;
	size_t size;
	size_t npages;
	/* As it was before. */
	long hugetlb;
};

FIXTURE_VARIANT(kind)
{
	void *(*alloc)(size_t size);
	/* Less than 2 MiB is meant for pages of 4 KiB. */
	size_t size;
	enum where where;
	/* With a child of fork(). */
	bool shared;
	/* Size of the folios, if they are large. */
	size_t folio;
};

static void *alloc_mmap(size_t size)
{
	return vsvm_alloc(size, 2 * MiB);
}

/* Not aligned, and beside other things. */
static void *alloc_malloc(size_t size)
{
	return malloc(size);
}

/* Naturally aligned, so that what else is on the heap is in other chunks. */
static void *alloc_heap(size_t size)
{
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	return aligned_alloc(size, size);
}

/* Far below what is in use, and never touched but for the page below it. */
static void *alloc_stack(size_t size)
{
	size_t page = getpagesize();
	uintptr_t low = ((uintptr_t)&page - MiB - size) / page * page;

	/* It grows downwards as far as it is touched. */
	vsvm_touch((void *)low);
	return (void *)(low + page);
}

static void *map(size_t size, int flags, int fd)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

static void *alloc_shared(size_t size)
{
	return map(size, MAP_SHARED | MAP_ANONYMOUS, -1);
}

static void *alloc_file(size_t size, int flags)
{
	int fd = memfd_create("vsvm", MFD_CLOEXEC);
	void *mem;

	if (fd < 0 || ftruncate(fd, size))
		return NULL;
	mem = map(size, flags, fd);
	close(fd);
	return mem;
}

static void *alloc_file_shared(size_t size)
{
	return alloc_file(size, MAP_SHARED);
}

static void *alloc_file_private(size_t size)
{
	return alloc_file(size, MAP_PRIVATE);
}

#define HUGETLB "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

static void *alloc_hugetlb(size_t size)
{
	if (vsvm_write_file(HUGETLB, "4"))
		return NULL;
	return map(size, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
		   MAP_HUGE_2MB, -1);
}

static void *alloc_thp(size_t size)
{
	void *mem = vsvm_alloc(size, 2 * MiB);

	return mem && !madvise(mem, size, MADV_HUGEPAGE) ? mem : NULL;
}

#define MTHP "/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled"

static void *alloc_mthp(size_t size)
{
	void *mem = vsvm_alloc(size, 2 * MiB);

	if (vsvm_write_file(MTHP, "madvise"))
		return NULL;
	return mem && !madvise(mem, size, MADV_HUGEPAGE) ? mem : NULL;
}

static void *alloc_mprotect(size_t size)
{
	void *mem = vsvm_alloc(size, 2 * MiB);

	if (!mem || mprotect(mem, size, PROT_NONE) ||
	    mprotect(mem, size, PROT_READ) ||
	    mprotect(mem, size, PROT_READ | PROT_WRITE))
		return NULL;
	return mem;
}

static void *alloc_mlock(size_t size)
{
	void *mem = vsvm_alloc(size, 2 * MiB);

	return mem && !mlock(mem, size) ? mem : NULL;
}

/* Two mappings that are beside each other, and different. */
static void *alloc_two(size_t size)
{
	char *mem = vsvm_alloc(size, 2 * MiB);

	return mem && !madvise(mem, size / 2, MADV_DONTFORK) &&
	       !madvise(mem, size / 2, MADV_DOFORK) &&
	       !madvise(mem + size / 2, size / 2, MADV_DONTDUMP) ? mem : NULL;
}

FIXTURE_VARIANT_ADD(kind, mmap) {
	.alloc = alloc_mmap,
	.size = 256 * 1024,
	.where = MOVES,
};

FIXTURE_VARIANT_ADD(kind, malloc) {
	.alloc = alloc_malloc,
	.size = 256 * 1024,
	.where = MOVES,
};

FIXTURE_VARIANT_ADD(kind, heap) {
	.alloc = alloc_heap,
	.size = 128 * 1024,
	.where = MOVES,
};

FIXTURE_VARIANT_ADD(kind, stack) {
	.alloc = alloc_stack,
	.size = 128 * 1024,
	.where = MOVES,
};

FIXTURE_VARIANT_ADD(kind, shared) {
	.alloc = alloc_shared,
	.size = 128 * 1024,
	.where = STAYS,
	.shared = true,
};

FIXTURE_VARIANT_ADD(kind, file_shared) {
	.alloc = alloc_file_shared,
	.size = 128 * 1024,
	.where = STAYS,
	.shared = true,
};

FIXTURE_VARIANT_ADD(kind, file_private) {
	.alloc = alloc_file_private,
	.size = 128 * 1024,
	.where = STAYS,
};

FIXTURE_VARIANT_ADD(kind, hugetlb) {
	.alloc = alloc_hugetlb,
	.size = 2 * MiB,
	.where = STAYS,
};

FIXTURE_VARIANT_ADD(kind, thp) {
	.alloc = alloc_thp,
	.size = 2 * MiB,
	.where = MOVES,
	.folio = 2 * MiB,
};

FIXTURE_VARIANT_ADD(kind, mthp) {
	.alloc = alloc_mthp,
	.size = 256 * 1024,
	.where = MOVES,
	.folio = 64 * 1024,
};

FIXTURE_VARIANT_ADD(kind, mprotect) {
	.alloc = alloc_mprotect,
	.size = 256 * 1024,
	.where = MOVES,
};

FIXTURE_VARIANT_ADD(kind, mlock) {
	.alloc = alloc_mlock,
	.size = 256 * 1024,
	.where = MOVES,
};

FIXTURE_VARIANT_ADD(kind, two) {
	.alloc = alloc_two,
	.size = 256 * 1024,
	.where = MOVES,
};

static bool has_folios(size_t size)
{
	if (size == 2 * MiB)
		return vsvm_huge_is(size);

	return size > (size_t)getpagesize() && !access(MTHP, F_OK);
}

FIXTURE_SETUP(kind)
{
	uintptr_t start;

	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	self->page = getpagesize();
	self->hugetlb = vsvm_file_figure(HUGETLB, "");
	if (variant->folio && !has_folios(variant->folio))
		SKIP(return, "no folios of this size");
	self->size = variant->size;
	if (self->size < 2 * MiB && !variant->folio)
		self->size = self->size / 4096 * self->page;
	start = (uintptr_t)variant->alloc(self->size);
	ASSERT_NE(0, start);
	/* Whole pages, so that all of them can be counted. */
	if (start % self->page) {
		start += self->page - start % self->page;
		self->size -= self->page;
	}
	self->size -= self->size % self->page;
	self->mem = (uint64_t *)start;
	self->npages = self->size / self->page;
}

FIXTURE_TEARDOWN(kind)
{
	uint64_t chunk = self->gpu.query.chunk_size;
	uintptr_t start = (uintptr_t)self->mem / chunk * chunk;
	uintptr_t end = ((uintptr_t)self->mem + self->size + chunk - 1) /
			chunk * chunk;

	/* More than this part of the stack may have been moved. */
	EXPECT_EQ(0, vsvm_prefetch(&self->gpu, (void *)start, end - start,
				   DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	vsvm_gpu_close(&self->gpu);
	vsvm_write_file(MTHP, "never");
	vsvm_write_figure(HUGETLB, self->hugetlb);
}

#define EXPECT_PLACE(is_device) do {					\
	long count = vsvm_count(&self->gpu, self->mem, self->size,	\
				(is_device) ? DRM_VSVM_PLACE_DEVICE :	\
					      DRM_VSVM_PLACE_SYSTEM);	\
	EXPECT_EQ((long)self->npages, count);				\
} while (0)

/* Whether it is still on the device after the CPU accessed it there */
static bool stays_on_device(struct _test_data_kind *self, enum where where)
{
	return where == MOVES && vsvm_coherent(&self->gpu);
}

static int gpu_sum_is(struct vsvm_gpu *gpu, const void *mem, size_t size,
		      uint64_t expected)
{
	uint64_t sum;
	int ret;

	ret = vsvm_gpu_checksum(gpu, mem, size, &sum);
	if (!ret && sum != expected)
		ret = -EBADMSG;
	return ret;
}

TEST_F_TIMEOUT(kind, cpu_first, TIMEOUT)
{
	uint64_t sum, zero = 0;

	/* The first touch of new memory brings a whole folio. */
	if (variant->folio) {
		self->mem[0] = 1;
		EXPECT_EQ((long)(variant->folio / self->page),
			  vsvm_count(&self->gpu, self->mem, self->size,
				     DRM_VSVM_PLACE_SYSTEM));
	}
	vsvm_fill(self->mem, self->size, 1);
	sum = vsvm_checksum(self->mem, self->size);
	EXPECT_PLACE(false);
	EXPECT_EQ(0, gpu_sum_is(&self->gpu, self->mem, self->size, sum));
	EXPECT_PLACE(variant->where == MOVES);

	/* Read and write: every word of it is added to itself, zero times. */
	EXPECT_EQ(0, vsvm_gpu_muladd(&self->gpu, self->mem, self->mem, &zero,
				     self->size));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	EXPECT_PLACE(stays_on_device(self, variant->where));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size / 2, 3));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size / 2, 3));
}

TEST_F_TIMEOUT(kind, gpu_first, TIMEOUT)
{
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 0x1234));
	EXPECT_PLACE(variant->where == MOVES);
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 0x1234));
	EXPECT_PLACE(stays_on_device(self, variant->where));
}

TEST_F_TIMEOUT(kind, gpu_reads_first, TIMEOUT)
{
	uint64_t *zero = calloc(1, self->size);
	uint64_t sum;

	ASSERT_NE(NULL, zero);
	sum = vsvm_checksum(zero, self->size);
	free(zero);
	EXPECT_EQ(0, gpu_sum_is(&self->gpu, self->mem, self->size, sum));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 0));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 5));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 5));
}

/* Word by word, from one side to the other, all within the same pages. */
TEST_F_TIMEOUT(kind, interleaved, TIMEOUT)
{
	size_t words = self->size / 8, step = words / 12, i;
	uint64_t *expected = malloc(self->size), old;

	ASSERT_NE(NULL, expected);
	vsvm_fill(expected, self->size, 6);
	vsvm_fill(self->mem, self->size, 6);
	for (i = 0; i + 1 < words; i += step) {
		self->mem[i] = i;
		ASSERT_EQ(0, vsvm_gpu_add(&self->gpu, self->mem + i, 1000,
					  &old));
		EXPECT_EQ(i, old);
		ASSERT_EQ(0, vsvm_gpu_copy(&self->gpu, self->mem + i + 1,
					   self->mem + i, 8));
		EXPECT_EQ(i + 1000, self->mem[i]);
		EXPECT_EQ(i + 1000, self->mem[i + 1]);
		ASSERT_EQ(0, vsvm_gpu_cas(&self->gpu, self->mem + i, i + 1000,
					  7, &old));
		EXPECT_EQ(i + 1000, old);
		EXPECT_EQ(7ULL, self->mem[i]);
		expected[i] = 7;
		expected[i + 1] = i + 1000;
	}
	/* Nothing else was written to. */
	EXPECT_EQ(0, memcmp(self->mem, expected, self->size));
	free(expected);
}

struct adder {
	uint64_t *mem;
	size_t words;
	size_t step;
	int rounds;
};

static void *add_by_cpu(void *arg)
{
	struct adder *adder = arg;
	size_t i;
	int r;

	for (r = 0; r < adder->rounds; r++)
		for (i = 0; i < adder->words; i += adder->step)
			__atomic_fetch_add(adder->mem + i, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* CPU and device add to the same words; no addition is lost. */
TEST_F_TIMEOUT(kind, both_at_once, TIMEOUT)
{
	struct adder adder = {
		.mem = self->mem,
		.words = self->size / 8,
		.step = self->size / 8 / 16,
		.rounds = 200,
	};
	struct drm_vsvm_op ops[16];
	pthread_t thread;
	size_t i, n = 0;
	int r;

	memset(self->mem, 0, self->size);
	for (i = 0; i < adder.words && n < 16; i += adder.step)
		ops[n++] = vsvm_op_add(self->mem + i, 1 << 20, NULL);

	ASSERT_EQ(0, pthread_create(&thread, NULL, add_by_cpu, &adder));
	for (r = 0; r < 10; r++)
		EXPECT_EQ(0, vsvm_run(&self->gpu, ops, n, NULL));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	for (i = 0, r = 0; i < adder.words && r < 16; i += adder.step, r++)
		EXPECT_EQ((10ULL << 20) + 200, self->mem[i]);
}

/* Tell the other process that it may go on, and wait until it says the same. */
static bool handshake(int to, int from)
{
	char byte = 0;

	return write(to, &byte, 1) == 1 && read(from, &byte, 1) == 1;
}

/* Verify, write to the first half, and see what the parent's device changes. */
static int fork_child(struct _test_data_kind *self, bool shared, int to, int from)
{
	uint64_t *mem = self->mem;
	size_t half = self->size / 2;
	uint64_t sum;

	if (vsvm_verify(mem, self->size, 10) != -1)
		return 1;
	sum = vsvm_checksum(mem + half / 8, half);
	vsvm_fill(mem, half, 11);
	if (!handshake(to, from))
		return 2;
	if (vsvm_verify(mem, half, 11) != -1)
		return 3;
	if (shared)
		return vsvm_verify(mem + half / 8, half, 11) == -1 ? 0 : 4;
	return vsvm_checksum(mem + half / 8, half) == sum ? 0 : 5;
}

/*
 * The child writes by CPU, the parent by device, and each sees what it may see
 * of the other.
 */
TEST_F_TIMEOUT(kind, fork, TIMEOUT)
{
	size_t half = self->size / 2;
	int up[2], down[2];
	uint64_t sum;
	char byte;
	pid_t pid;

	vsvm_fill(self->mem, self->size, 10);
	sum = vsvm_checksum(self->mem, self->size);
	ASSERT_EQ(0, gpu_sum_is(&self->gpu, self->mem, self->size, sum));
	ASSERT_EQ(0, pipe(up));
	ASSERT_EQ(0, pipe(down));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		close(up[0]);
		close(down[1]);
		_exit(fork_child(self, variant->shared, up[1], down[0]));
	}
	/* Waiting for a process that has ended returns. */
	close(up[1]);
	close(down[0]);
	ASSERT_EQ(1, read(up[0], &byte, 1));
	if (!variant->shared) {
		EXPECT_EQ(0, gpu_sum_is(&self->gpu, self->mem, self->size,
					sum));
	}
	EXPECT_EQ(0, vsvm_gpu_copy(&self->gpu, self->mem + half / 8, self->mem,
				   half));
	ASSERT_EQ(1, write(down[1], &byte, 1));
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(-1, vsvm_verify(self->mem + half / 8, half,
				  variant->shared ? 11 : 10));
	close(up[0]);
	close(down[1]);
}

/* Without variants: the device. */
FIXTURE(gpu)
{
	struct vsvm_gpu gpu;
};

FIXTURE_SETUP(gpu)
{
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
}

FIXTURE_TEARDOWN(gpu)
{
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	vsvm_gpu_close(&self->gpu);
}

/* Files see what the device writes, and the device what is written to them. */
TEST_F(gpu, file_and_device)
{
	size_t size = 16 * getpagesize();
	char path[] = "/tmp/vsvmXXXXXX";
	uint64_t *mem, *copy, sum;
	int fd;

	fd = mkstemp(path);
	ASSERT_LE(0, fd);
	unlink(path);
	copy = malloc(size);
	ASSERT_NE(NULL, copy);
	ASSERT_EQ(0, ftruncate(fd, size));
	mem = map(size, MAP_SHARED, fd);
	ASSERT_NE(NULL, mem);

	vsvm_fill(copy, size, 1);
	sum = vsvm_checksum(copy, size);
	ASSERT_EQ((ssize_t)size, pwrite(fd, copy, size, 0));
	EXPECT_EQ(0, gpu_sum_is(&self->gpu, mem, size, sum));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, mem, size, 12));
	ASSERT_EQ((ssize_t)size, pread(fd, copy, size, 0));
	EXPECT_EQ(-1, vsvm_verify_value(copy, size, 12));

	/* There is nothing beyond the end of the file. */
	ASSERT_EQ(0, ftruncate(fd, size / 2));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, mem, size / 2, 13));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, mem, size, 14));
	munmap(mem, size);

	/* A private mapping of it keeps writes to itself. */
	ASSERT_EQ(0, ftruncate(fd, size));
	mem = map(size, MAP_PRIVATE, fd);
	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, mem, size, 15));
	EXPECT_EQ(-1, vsvm_verify_value(mem, size, 15));
	ASSERT_EQ((ssize_t)size, pread(fd, copy, size, 0));
	EXPECT_EQ(-1, vsvm_verify_value(copy, size / 2, 14));
	EXPECT_EQ(-1, vsvm_verify_value(copy + size / 16, size / 2, 0));
	munmap(mem, size);
	close(fd);
}

/* Read-only memory can be read: zeroes, a file, the program itself. */
TEST_F(gpu, read_only)
{
	static const uint64_t constant[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	size_t size = 8 * getpagesize();
	const void *mem[3];
	size_t sizes[3] = { size, size, sizeof(constant) }, i;
	char path[] = "/tmp/vsvmXXXXXX";
	uint64_t *copy;
	int fd;

	fd = mkstemp(path);
	ASSERT_LE(0, fd);
	copy = malloc(size);
	ASSERT_NE(NULL, copy);
	vsvm_fill(copy, size, 1);
	ASSERT_EQ((ssize_t)size, write(fd, copy, size));
	free(copy);
	close(fd);
	fd = open(path, O_RDONLY);
	ASSERT_LE(0, fd);
	unlink(path);

	mem[0] = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	mem[1] = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	mem[2] = constant;
	close(fd);
	for (i = 0; i < 3; i++) {
		ASSERT_NE(MAP_FAILED, mem[i]);
		/* The device is the first to access it. */
		copy = malloc(sizes[i]);
		ASSERT_NE(NULL, copy);
		EXPECT_EQ(EACCES, vsvm_gpu_fill(&self->gpu, (void *)mem[i],
						sizes[i], 9));
		EXPECT_EQ(0, vsvm_gpu_copy(&self->gpu, copy, mem[i], sizes[i]));
		EXPECT_EQ(0, memcmp(copy, mem[i], sizes[i]));
		EXPECT_EQ(EACCES, vsvm_gpu_fill(&self->gpu, (void *)mem[i],
						sizes[i], 9));
		EXPECT_EQ(0, memcmp(copy, mem[i], sizes[i]));
		free(copy);
	}
	EXPECT_EQ(-1, vsvm_verify_value(mem[0], size, 0));
	EXPECT_EQ(-1, vsvm_verify(mem[1], size, 1));
	EXPECT_EQ(5ULL, constant[4]);
	munmap((void *)mem[0], size);
	munmap((void *)mem[1], size);
}

/*
 * Memory that was subject to MADV_FREE and is then written to on the device
 * belongs to the process again, even if it comes back for a CPU that only reads
 * it.
 */
TEST_F_TIMEOUT(gpu, free_then_device_writes_then_reclaim, TIMEOUT)
{
	size_t page = getpagesize(), n = 256, size = n * page;
	char *mem;

	mem = vsvm_alloc(size, size);
	ASSERT_NE(NULL, mem);
	vsvm_fill(mem, size, 1);
	ASSERT_EQ(0, madvise(mem, size, MADV_FREE));
	/* Pages on their way between lists are neither free nor do they move. */
	vsvm_write_file("/proc/sys/vm/compact_memory", "1");
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, mem, size, 8));
	EXPECT_EQ((long)n, vsvm_count(&self->gpu, mem, size,
				      DRM_VSVM_PLACE_DEVICE));
	ASSERT_EQ(0, vsvm_bring_back(&self->gpu, mem, size));
	ASSERT_EQ(0, madvise(mem, size, MADV_PAGEOUT));
	EXPECT_EQ(-1, vsvm_verify_value(mem, size, 8));
	munmap(mem, size);
}

/* A child moves memory that it has from its parent, and keeps it there. */
static int child_moves(char *mem, size_t size)
{
	struct vsvm_gpu gpu;

	if (vsvm_gpu_open(&gpu, 0))
		return 1;
	if (vsvm_prefetch(&gpu, mem, size, DRM_VSVM_PLACE_DEVICE))
		return 2;
	return 0;
}

/*
 * Memory that is used much and then given up, and after that memory that must
 * not be reclaimed, in the same pages of the device: no page is both.  Memory
 * that is locked by one process and moved by another stays locked.
 */
TEST_F_TIMEOUT(gpu, locked_where_active_was, TIMEOUT)
{
	size_t page = getpagesize(), n = 64, size = n * page;
	char *mem = vsvm_alloc(size, size), *copy = malloc(size);
	struct iovec local = { copy, size }, remote = { mem, size };
	int i;
	pid_t pid;

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, copy);
	vsvm_fill(mem, size, 1);
	for (i = 0; i < 4; i++)
		ASSERT_EQ((ssize_t)size,
			  process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	free(copy);
	/* Let pages on their way between lists arrive. */
	vsvm_write_file("/proc/sys/vm/compact_memory", "1");
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, mem, size,
				   DRM_VSVM_PLACE_DEVICE));
	munmap(mem, size);
	ASSERT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));

	mem = vsvm_alloc(size, size);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mlock(mem, size));
	vsvm_fill(mem, size, 2);
	vsvm_write_file("/proc/sys/vm/compact_memory", "1");
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(child_moves(mem, size));
	ASSERT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ((long)n, vsvm_count(&self->gpu, mem, size,
				      DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(-1, vsvm_verify(mem, size, 2));
	munmap(mem, size);
}

/*
 * Operations of a process on its memory, wherever it is.
 */

enum start {
	SYSTEM,		/* in RAM, unknown to the device */
	PREFETCHED,	/* in device memory, but not mapped by the device */
	DEVICE,		/* in device memory, written by the device */
	MAPPED,		/* in RAM, written by the device, as advised */
	PEER,		/* in the memory of the second device, read by the first */
};

FIXTURE(op)
{
	struct vsvm_gpu gpu;
	struct vsvm_gpu second;
	size_t page;
	size_t npages;
	size_t size;
	char *mem;
	char *spare;
	uint64_t sum;
};

FIXTURE_VARIANT(op)
{
	enum start start;
};

FIXTURE_VARIANT_ADD(op, system) { .start = SYSTEM };
FIXTURE_VARIANT_ADD(op, prefetched) { .start = PREFETCHED };
FIXTURE_VARIANT_ADD(op, device) { .start = DEVICE };
FIXTURE_VARIANT_ADD(op, mapped) { .start = MAPPED };
FIXTURE_VARIANT_ADD(op, peer) { .start = PEER };

#define SEED	100

/* Have the device write the pattern. */
static int written_by(struct _test_data_op *self, struct vsvm_gpu *gpu)
{
	vsvm_fill(self->spare, self->size, SEED);
	return vsvm_gpu_copy(gpu, self->mem, self->spare, self->size);
}

static int prepare(struct _test_data_op *self, enum start start)
{
	int ret;

	switch (start) {
	case SYSTEM:
		vsvm_fill(self->mem, self->size, SEED);
		return 0;
	case PREFETCHED:
		vsvm_fill(self->mem, self->size, SEED);
		return vsvm_prefetch(&self->gpu, self->mem, self->size,
				     DRM_VSVM_PLACE_DEVICE);
	case DEVICE:
		return written_by(self, &self->gpu);
	case MAPPED:
		ret = vsvm_advise(&self->gpu, self->mem, self->size,
				  DRM_VSVM_ADVICE_SYSTEM);
		return ret ? ret : written_by(self, &self->gpu);
	case PEER:
		ret = written_by(self, &self->second);
		if (ret)
			return ret;
		return gpu_sum_is(&self->gpu, self->mem, self->size, self->sum);
	}
	return -EINVAL;
}

static uint32_t start_place(enum start start)
{
	switch (start) {
	case PREFETCHED:
	case DEVICE:
		return DRM_VSVM_PLACE_DEVICE;
	case PEER:
		return DRM_VSVM_PLACE_PEER;
	default:
		return DRM_VSVM_PLACE_SYSTEM;
	}
}

/* Where it is after a read by the first device and one by the CPU */
static uint32_t used_place(struct _test_data_op *self, enum start start)
{
	if (!vsvm_coherent(&self->gpu))
		return DRM_VSVM_PLACE_SYSTEM;
	return start == SYSTEM ? DRM_VSVM_PLACE_DEVICE : start_place(start);
}

FIXTURE_SETUP(op)
{
	int ret;

	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	ret = vsvm_gpu_open(&self->second, 1);
	if (ret == -ENODEV)
		SKIP(return, "one device only");
	ASSERT_EQ(0, ret);
	self->page = getpagesize();
	self->npages = 32;
	self->size = self->npages * self->page;
	self->mem = vsvm_alloc(self->size, self->size);
	self->spare = vsvm_alloc(self->size, self->size);
	ASSERT_NE(NULL, self->mem);
	ASSERT_NE(NULL, self->spare);
	vsvm_fill(self->spare, self->size, SEED);
	self->sum = vsvm_checksum(self->spare, self->size);

	ASSERT_EQ(0, prepare(self, variant->start));
	EXPECT_EQ((long)self->npages,
		  vsvm_count(&self->gpu, self->mem, self->size,
			     start_place(variant->start)));
}

FIXTURE_TEARDOWN(op)
{
	munmap(self->mem, self->size);
	munmap(self->spare, self->size);
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	EXPECT_EQ(0, vsvm_wait_used(self->second.fd,
				    self->second.stats.vram_used));
	vsvm_gpu_close(&self->gpu);
	vsvm_gpu_close(&self->second);
}

/*
 * The pattern, from byte @offset on, is at @mem: as seen by the device, then by
 * the CPU.
 */
static int pattern_at(struct _test_data_op *self, const char *mem, size_t offset,
		      size_t size)
{
	int ret;

	vsvm_fill(self->spare, self->size, SEED);
	ret = gpu_sum_is(&self->gpu, mem, size,
			 vsvm_checksum(self->spare + offset, size));
	if (ret)
		return ret;
	return memcmp(mem, self->spare + offset, size) ? -ESTALE : 0;
}

/* The same for one word everywhere. */
static int value_at(struct _test_data_op *self, const char *mem, size_t size,
		    uint64_t value)
{
	uint64_t *word = (uint64_t *)self->spare;
	size_t i;
	int ret;

	for (i = 0; i < size / sizeof(*word); i++)
		word[i] = value;
	ret = gpu_sum_is(&self->gpu, mem, size,
			 vsvm_checksum(self->spare, size));
	if (ret)
		return ret;
	return vsvm_verify_value(mem, size, value) == -1 ? 0 : -ESTALE;
}

TEST_F(op, nothing)
{
	EXPECT_EQ(0, pattern_at(self, self->mem, 0, self->size));
	EXPECT_EQ((long)self->npages,
		  vsvm_count(&self->gpu, self->mem, self->size,
			     used_place(self, variant->start)));
}

TEST_F(op, munmap)
{
	uint64_t sum;

	ASSERT_EQ(0, munmap(self->mem, self->size));
	EXPECT_EQ(EFAULT, vsvm_gpu_checksum(&self->gpu, self->mem, self->size,
					    &sum));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 1));
	/* Other memory at the same address is other memory. */
	ASSERT_EQ(self->mem, mmap(self->mem, self->size, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
				  0));
	EXPECT_EQ(0, value_at(self, self->mem, self->size, 0));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 2));
}

/* Mapped over, without being unmapped before. */
TEST_F(op, mmap_fixed)
{
	ASSERT_EQ(self->mem, mmap(self->mem, self->size, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
				  0));
	EXPECT_EQ(0, value_at(self, self->mem, self->size, 0));
}

static int punch(struct _test_data_op *self, size_t first, size_t last)
{
	size_t a = first * self->page, b = (last + 1) * self->page;
	int ret;

	if (munmap(self->mem + a, b - a))
		return -errno;
	if (vsvm_gpu_fill(&self->gpu, self->mem + a, 8, 1) != EFAULT ||
	    vsvm_gpu_fill(&self->gpu, self->mem + b - 8, 8, 1) != EFAULT)
		return -ENOTUNIQ;
	ret = a ? pattern_at(self, self->mem, 0, a) : 0;
	if (ret || b == self->size)
		return ret;
	return pattern_at(self, self->mem + b, b, self->size - b);
}

TEST_F(op, munmap_head)
{
	EXPECT_EQ(0, punch(self, 0, 4));
}

TEST_F(op, munmap_middle)
{
	EXPECT_EQ(0, punch(self, 7, 7));
	ASSERT_EQ(self->mem + 7 * self->page,
		  mmap(self->mem + 7 * self->page, self->page,
		       PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	EXPECT_EQ(0, value_at(self, self->mem + 7 * self->page, self->page, 0));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 4));
	EXPECT_EQ(0, value_at(self, self->mem, self->size, 4));
}

TEST_F(op, munmap_tail)
{
	EXPECT_EQ(0, punch(self, self->npages - 9, self->npages - 1));
}

TEST_F(op, mremap_move)
{
	char *moved = vsvm_alloc(self->size, self->page);
	uint64_t sum;

	ASSERT_NE(NULL, moved);
	ASSERT_EQ(moved, mremap(self->mem, self->size, self->size,
				MREMAP_MAYMOVE | MREMAP_FIXED, moved));
	EXPECT_EQ(EFAULT, vsvm_gpu_checksum(&self->gpu, self->mem, self->size,
					    &sum));
	EXPECT_EQ(0, pattern_at(self, moved, 0, self->size));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, moved, self->size, 3));
	EXPECT_EQ(0, value_at(self, moved, self->size, 3));
	munmap(moved, self->size);
}

TEST_F(op, mremap_dontunmap)
{
	char *moved;

	moved = mremap(self->mem, self->size, self->size,
		       MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	ASSERT_NE(MAP_FAILED, moved);
	EXPECT_EQ(0, pattern_at(self, moved, 0, self->size));
	EXPECT_EQ(0, value_at(self, self->mem, self->size, 0));
	munmap(moved, self->size);
}

TEST_F(op, mremap_grow)
{
	size_t size = self->size + 5 * self->page;
	char *moved;

	moved = mremap(self->mem, self->size, size, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, moved);
	EXPECT_EQ(0, value_at(self, moved + self->size, size - self->size, 0));
	EXPECT_EQ(0, pattern_at(self, moved, 0, self->size));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, moved, size, 6));
	EXPECT_EQ(-1, vsvm_verify_value(moved, size, 6));
	munmap(moved, size);
}

TEST_F(op, mremap_shrink)
{
	size_t size = self->size / 2;

	ASSERT_EQ(self->mem, mremap(self->mem, self->size, size, 0));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, self->mem + size, 8, 1));
	EXPECT_EQ(0, pattern_at(self, self->mem, 0, size));
}

TEST_F(op, dontneed)
{
	size_t a = 3 * self->page, b = 20 * self->page;

	ASSERT_EQ(0, madvise(self->mem + a, b - a, MADV_DONTNEED));
	EXPECT_EQ(0, value_at(self, self->mem + a, b - a, 0));
	EXPECT_EQ(0, pattern_at(self, self->mem, 0, a));
	EXPECT_EQ(0, pattern_at(self, self->mem + b, b, self->size - b));
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_DONTNEED));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->page, 7));
	EXPECT_EQ(0, value_at(self, self->mem, self->page, 7));
	EXPECT_EQ(0, value_at(self, self->mem + self->page,
			      self->size - self->page, 0));
}

/* Freed pages are unchanged or zero, until they are written to. */
TEST_F(op, free)
{
	uint64_t *word = (uint64_t *)self->mem;
	size_t i, per_page = self->page / 8;

	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_FREE));
	vsvm_fill(self->spare, self->size, SEED);
	for (i = 0; i < self->npages; i++) {
		if (!word[i * per_page]) {
			EXPECT_EQ(-1, vsvm_verify_value(word + i * per_page,
							self->page, 0));
		} else {
			EXPECT_EQ(0, memcmp(word + i * per_page,
					    self->spare + i * self->page,
					    self->page));
		}
	}
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 8));
	EXPECT_EQ(0, value_at(self, self->mem, self->size, 8));
}

TEST_F(op, free_then_device_writes)
{
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_FREE));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 8));
	/* The memory is not free any more. */
	madvise(self->mem, self->size, MADV_PAGEOUT);
	EXPECT_EQ(0, value_at(self, self->mem, self->size, 8));
}

TEST_F(op, pageout)
{
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_PAGEOUT));
	EXPECT_EQ(0, pattern_at(self, self->mem, 0, self->size));
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_PAGEOUT));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size / 2, 9));
	EXPECT_EQ(0, value_at(self, self->mem, self->size / 2, 9));
	EXPECT_EQ(0, pattern_at(self, self->mem + self->size / 2,
				self->size / 2, self->size / 2));
}

static bool has_swap(void)
{
	char line[128];
	FILE *f = fopen("/proc/swaps", "r");
	int lines = 0;

	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		lines++;
	fclose(f);
	return lines > 1;
}

/* From RAM to swap for sure, and straight to the device from there. */
TEST_F(op, swapped_out)
{
	if (!has_swap())
		SKIP(return, "there is no swap");

	vsvm_touch(self->mem);
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_SYSTEM));
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_PAGEOUT));
	EXPECT_LT(0, vsvm_count(&self->gpu, self->mem, self->size,
				DRM_VSVM_PLACE_NONE));
	EXPECT_EQ(0, pattern_at(self, self->mem, 0, self->size));
}

/* Read each page, and no more. */
static void touch_all(struct _test_data_op *self)
{
	size_t i;

	for (i = 0; i < self->npages; i++)
		vsvm_touch(self->mem + i * self->page);
}

/* Out to swap, and in again without giving up the copy there. */
static int to_swap_cache(struct _test_data_op *self)
{
	int ret;

	ret = vsvm_prefetch(&self->gpu, self->mem, self->size,
			    DRM_VSVM_PLACE_SYSTEM);
	if (ret)
		return ret;
	if (madvise(self->mem, self->size, MADV_PAGEOUT) ||
	    madvise(self->mem, self->size, MADV_WILLNEED))
		return -errno;
	touch_all(self);
	return 0;
}

/*
 * Pages that the CPU only read since they came from swap still have a copy
 * there: reclaim may drop such a page, but not after the device wrote to it.  A
 * fault on memory that is swapped to a fast device frees the copy in swap at
 * once, but not if the page was in the swap cache already.
 */
TEST_F(op, swapped_in_then_device_writes)
{
	if (!has_swap())
		SKIP(return, "there is no swap");

	ASSERT_EQ(0, to_swap_cache(self));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 10));
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_PAGEOUT));
	EXPECT_EQ(0, value_at(self, self->mem, self->size, 10));
}

/* Pages in the swap cache move to the device, too, and leave it for that. */
TEST_F(op, swapped_in_then_prefetched)
{
	long moved = 0;
	int tries;

	if (!has_swap())
		SKIP(return, "there is no swap");

	/*
	 * Others may have a reference for a moment.  A page that leaves the swap
	 * cache, but does not move, has to be there again for another try.
	 */
	for (tries = 0; tries < 20 && moved != (long)self->npages; tries++) {
		if (tries)
			usleep(10000);
		ASSERT_EQ(0, to_swap_cache(self));
		vsvm_prefetch(&self->gpu, self->mem, self->size,
			      DRM_VSVM_PLACE_DEVICE);
		moved = vsvm_count(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_DEVICE);
	}
	EXPECT_EQ((long)self->npages, moved);
	EXPECT_EQ(0, pattern_at(self, self->mem, 0, self->size));
}

/*
 * Nor may reclaim drop what the CPU has written since, after the page was to move
 * and could not.
 */
TEST_F(op, swapped_in_then_refused)
{
	struct iovec iov = { self->mem, self->size };
	int fd[2];

	if (!has_swap())
		SKIP(return, "there is no swap");

	ASSERT_EQ(0, pipe(fd));
	if (fcntl(fd[1], F_SETPIPE_SZ, self->size) < (long)self->size)
		SKIP(return, "no pipe for that many pages");
	ASSERT_EQ(0, to_swap_cache(self));
	vsvm_fill(self->mem, self->size, SEED + 1);
	ASSERT_EQ((ssize_t)self->size, vmsplice(fd[1], &iov, 1, 0));
	EXPECT_EQ(-EBUSY, vsvm_prefetch(&self->gpu, self->mem, self->size,
					DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ((long)self->npages,
		  vsvm_count(&self->gpu, self->mem, self->size,
			     DRM_VSVM_PLACE_SYSTEM));
	close(fd[0]);
	close(fd[1]);
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_PAGEOUT));
	EXPECT_LT(0, vsvm_count(&self->gpu, self->mem, self->size,
				DRM_VSVM_PLACE_NONE));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, SEED + 1));
}

TEST_F(op, mlock)
{
	ASSERT_EQ(0, mlock(self->mem, self->size));
	EXPECT_EQ(0, pattern_at(self, self->mem, 0, self->size));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size / 2, 9));
	ASSERT_EQ(0, munlock(self->mem, self->size));
	EXPECT_EQ(0, value_at(self, self->mem, self->size / 2, 9));
}

TEST_F(op, mprotect)
{
	ASSERT_EQ(0, mprotect(self->mem, self->size, PROT_READ));
	EXPECT_EQ(EACCES, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 1));
	EXPECT_EQ(0, pattern_at(self, self->mem, 0, self->size));
	EXPECT_EQ(EACCES, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 1));
	ASSERT_EQ(0, mprotect(self->mem, self->size, PROT_NONE));
	EXPECT_EQ(EACCES, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 1));
	EXPECT_EQ(EACCES, vsvm_gpu_copy(&self->gpu, self->spare, self->mem, 8));
	ASSERT_EQ(0, mprotect(self->mem, self->size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, pattern_at(self, self->mem, 0, self->size));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	EXPECT_EQ(0, value_at(self, self->mem, self->size, 2));
}

TEST_F(op, fork_child_writes)
{
	pid_t pid = fork();

	if (!pid) {
		if (vsvm_verify(self->mem, self->size, SEED) != -1)
			_exit(1);
		vsvm_fill(self->mem, self->size, 1);
		_exit(vsvm_verify(self->mem, self->size, 1) != -1);
	}
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(0, pattern_at(self, self->mem, 0, self->size));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	EXPECT_EQ(0, value_at(self, self->mem, self->size, 2));
}

/* The device writes for the parent; the child must not notice. */
TEST_F(op, fork_device_writes)
{
	int pipes[2];
	char go = 1;
	pid_t pid;

	ASSERT_EQ(0, pipe(pipes));
	pid = fork();
	if (!pid) {
		close(pipes[1]);
		if (read(pipes[0], &go, 1) != 1)
			_exit(2);
		_exit(vsvm_verify(self->mem, self->size, SEED) != -1);
	}
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	ASSERT_EQ(1, write(pipes[1], &go, 1));
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(0, value_at(self, self->mem, self->size, 2));
}

/* The other way round, with the child's own VM. */
TEST_F(op, fork_child_device_writes)
{
	pid_t pid = fork();

	if (!pid) {
		if (vsvm_gpu_open(&self->gpu, 0))
			_exit(1);
		if (pattern_at(self, self->mem, 0, self->size / 2))
			_exit(2);
		if (vsvm_gpu_fill(&self->gpu, self->mem, self->size, 3))
			_exit(3);
		_exit(value_at(self, self->mem, self->size, 3) != 0);
	}
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(0, pattern_at(self, self->mem, 0, self->size));
}

/* Both at the same time, each with CPU and device. */
TEST_F(op, fork_both_write)
{
	pid_t pid = fork();
	uint64_t seed = pid ? 5 : 6;
	int i, ret = 0;

	if (!pid && vsvm_gpu_open(&self->gpu, 0))
		_exit(1);
	for (i = 0; i < 5 && !ret; i++, seed += 2) {
		ret = vsvm_gpu_fill(&self->gpu, self->mem, self->size / 2,
				    seed);
		vsvm_fill(self->mem + self->size / 2, self->size / 2, seed);
		if (vsvm_verify_value(self->mem, self->size / 2, seed) != -1 ||
		    gpu_sum_is(&self->gpu, self->mem + self->size / 2,
			       self->size / 2,
			       vsvm_checksum(self->mem + self->size / 2,
					     self->size / 2)) ||
		    vsvm_verify(self->mem + self->size / 2, self->size / 2,
				seed) != -1)
			ret = 2;
	}
	if (!pid)
		_exit(ret ? 3 : 0);
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, vsvm_wait_child(pid));
}

TEST_F(op, vfork_exec)
{
	pid_t pid = vfork();

	if (!pid) {
		execl("/bin/true", "true", NULL);
		_exit(1);
	}
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(0, pattern_at(self, self->mem, 0, self->size));
}

/* The kernel reads and writes the memory on behalf of others. */
TEST_F(op, system_calls)
{
	char *copy = malloc(self->size);
	struct iovec local = { copy, self->size };
	struct iovec remote = { self->mem, self->size };
	int fd;

	ASSERT_NE(NULL, copy);
	ASSERT_EQ((ssize_t)self->size,
		  process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_EQ(-1, vsvm_verify(copy, self->size, SEED));

	ASSERT_EQ(0, prepare(self, variant->start));
	fd = memfd_create("vsvm", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ((ssize_t)self->size, pwrite(fd, self->mem, self->size, 0));
	ASSERT_EQ((ssize_t)self->size, pread(fd, copy, self->size, 0));
	EXPECT_EQ(-1, vsvm_verify(copy, self->size, SEED));

	ASSERT_EQ(0, prepare(self, variant->start));
	memset(copy, 0, self->size);
	ASSERT_EQ((ssize_t)self->size, pwrite(fd, copy, self->size, 0));
	ASSERT_EQ((ssize_t)self->size, pread(fd, self->mem, self->size, 0));
	EXPECT_EQ(0, value_at(self, self->mem, self->size, 0));
	close(fd);
	free(copy);
}

/* Pages that are held for a moment are no reason to give up. */
static int collapse(char *mem, size_t size)
{
	double end = vsvm_now_ms() + VSVM_WAIT_MS;
	int ret;

	do {
		ret = madvise(mem, size, MADV_COLLAPSE) ? -errno : 0;
	} while (ret == -EAGAIN && vsvm_now_ms() < end);
	return ret;
}

/*
 * A single mapping, since mremap() would create another: pages in each state,
 * between others, become one huge page.
 */
TEST_F(op, collapse)
{
	char *mem = vsvm_alloc(2 * MiB, 2 * MiB), *before = self->mem;

	ASSERT_NE(NULL, mem);
	if (!vsvm_huge_is(2 * MiB))
		SKIP(return, "no huge pages of this size");
	vsvm_fill(mem, MiB, 9);
	/* It needs a page that can be written to. */
	ASSERT_EQ(0, vsvm_advise(&self->gpu, mem, MiB, DRM_VSVM_ADVICE_SYSTEM));
	ASSERT_EQ(0, vsvm_advise(&self->second, mem, MiB,
				 DRM_VSVM_ADVICE_SYSTEM));
	self->mem = mem + MiB;
	ASSERT_EQ(0, prepare(self, variant->start));
	self->mem = before;
	EXPECT_EQ((long)self->npages,
		  vsvm_count(&self->gpu, mem + MiB, self->size,
			     start_place(variant->start)));
	ASSERT_EQ(0, madvise(mem, 2 * MiB, MADV_HUGEPAGE));
	/* Nobody moves what the CPU accesses where it is. */
	if (vsvm_coherent(&self->gpu) &&
	    start_place(variant->start) != DRM_VSVM_PLACE_SYSTEM) {
		EXPECT_EQ(-EINVAL, collapse(mem, 2 * MiB));
		ASSERT_EQ(0, vsvm_bring_back(&self->gpu, mem + MiB,
					     self->size));
	}
	ASSERT_EQ(0, collapse(mem, 2 * MiB));
	EXPECT_EQ(-1, vsvm_verify(mem, MiB, 9));
	EXPECT_EQ(0, pattern_at(self, mem + MiB, 0, self->size));
	EXPECT_EQ(-1, vsvm_verify_value(mem + MiB + self->size,
					MiB - self->size, 0));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, mem, 2 * MiB, 3));
	EXPECT_EQ(-1, vsvm_verify_value(mem, 2 * MiB, 3));
	munmap(mem, 2 * MiB);
}

/* Advice for each place, and what it leads to on the next access. */
TEST_F(op, advise_device)
{
	ASSERT_EQ(0, vsvm_advise(&self->gpu, self->mem, self->size,
				 DRM_VSVM_ADVICE_DEVICE));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 4));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 4));
	/* It is in system memory then, wherever it was before. */
	ASSERT_EQ(0, vsvm_bring_back(&self->gpu, self->mem, self->size));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 5));
	EXPECT_EQ((long)self->npages,
		  vsvm_count(&self->gpu, self->mem, self->size,
			     DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 5));
}

TEST_F(op, advise_system)
{
	ASSERT_EQ(0, vsvm_advise(&self->gpu, self->mem, self->size,
				 DRM_VSVM_ADVICE_SYSTEM));
	EXPECT_EQ(0, gpu_sum_is(&self->gpu, self->mem, self->size, self->sum));
	/* Nothing was moved. */
	EXPECT_EQ((long)self->npages,
		  vsvm_count(&self->gpu, self->mem, self->size,
			     start_place(variant->start)));
	EXPECT_EQ(0, pattern_at(self, self->mem, 0, self->size));
	ASSERT_EQ(0, vsvm_bring_back(&self->gpu, self->mem, self->size));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 6));
	EXPECT_EQ((long)self->npages,
		  vsvm_count(&self->gpu, self->mem, self->size,
			     DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 6));
}

/* Advice is for addresses, also in the middle, and can be taken back. */
TEST_F(op, advise_part)
{
	size_t a = 8 * self->page, n = 8;

	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_SYSTEM));
	ASSERT_EQ(0, vsvm_advise(&self->gpu, self->mem, self->size,
				 DRM_VSVM_ADVICE_DEVICE));
	ASSERT_EQ(0, vsvm_advise(&self->gpu, self->mem + a, n * self->page,
				 DRM_VSVM_ADVICE_SYSTEM));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 7));
	EXPECT_EQ((long)n, vsvm_count(&self->gpu, self->mem + a,
				      n * self->page, DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ((long)(self->npages - n),
		  vsvm_count(&self->gpu, self->mem, self->size,
			     DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(0, value_at(self, self->mem, self->size, 7));

	ASSERT_EQ(0, vsvm_advise(&self->gpu, self->mem, self->size,
				 DRM_VSVM_ADVICE_DEFAULT));
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_SYSTEM));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 8));
	EXPECT_EQ((long)self->npages,
		  vsvm_count(&self->gpu, self->mem, self->size,
			     DRM_VSVM_PLACE_DEVICE));
}

static int advise_more(struct _test_data_op *self, uint32_t timeslice,
		       uint64_t window)
{
	struct drm_vsvm_advise args = {
		.vm_id = self->gpu.vm,
		.start = (uintptr_t)self->mem,
		.size = self->size,
		.advice = DRM_VSVM_ADVICE_DEVICE,
		.timeslice_ms = timeslice,
		.fault_window = window,
	};
	int ret;

	ret = vsvm_prefetch(&self->gpu, self->mem, self->size,
			    DRM_VSVM_PLACE_SYSTEM);
	return ret ? ret : vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_ADVISE,
				      &args);
}

TEST_F(op, advise_window)
{
	ASSERT_EQ(0, advise_more(self, 0, self->page));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 7));
	ASSERT_EQ(0, vsvm_bring_back(&self->gpu, self->mem + 5 * self->page,
				     self->page));
	EXPECT_EQ(1, vsvm_count(&self->gpu, self->mem, self->size,
				DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(1, vsvm_count(&self->gpu, self->mem + 5 * self->page,
				self->page, DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(0, value_at(self, self->mem, self->size, 7));
}

TEST_F(op, advise_timeslice)
{
	double began;

	if (vsvm_coherent(&self->gpu))
		SKIP(return, "the CPU accesses device memory in place");

	ASSERT_EQ(0, advise_more(self, 300, 0));
	began = vsvm_now_ms();
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 7));
	vsvm_touch(self->mem);
	EXPECT_LE(299, vsvm_now_ms() - began);
	EXPECT_EQ(0, value_at(self, self->mem, self->size, 7));
}

TEST_F(op, prefetch_to_device)
{
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(0, gpu_sum_is(&self->gpu, self->mem, self->size, self->sum));
	EXPECT_EQ((long)self->npages,
		  vsvm_count(&self->gpu, self->mem, self->size,
			     DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, SEED));
}

TEST_F(op, prefetch_to_system)
{
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ((long)self->npages,
		  vsvm_count(&self->gpu, self->mem, self->size,
			     DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(0, pattern_at(self, self->mem, 0, self->size));
}

/*
 * Two devices.
 */

FIXTURE(pair)
{
	struct vsvm_gpu gpu[2];
	size_t page;
	size_t npages;
	size_t size;
	char *mem;
};

FIXTURE_VARIANT(pair)
{
	bool peers;
};

FIXTURE_VARIANT_ADD(pair, peers) { .peers = true };
FIXTURE_VARIANT_ADD(pair, no_peers) { .peers = false };

FIXTURE_SETUP(pair)
{
	int ret;

	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu[0], 0));
	ret = vsvm_gpu_open(&self->gpu[1], 1);
	if (ret == -ENODEV)
		SKIP(return, "one device only");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, vsvm_set_peers(variant->peers));
	self->page = getpagesize();
	self->npages = 32;
	self->size = self->npages * self->page;
	self->mem = vsvm_alloc(self->size, self->size);
	ASSERT_NE(NULL, self->mem);
}

FIXTURE_TEARDOWN(pair)
{
	int i;

	munmap(self->mem, self->size);
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, vsvm_wait_used(self->gpu[i].fd,
					    self->gpu[i].stats.vram_used));
		vsvm_gpu_close(&self->gpu[i]);
	}
	vsvm_set_peers(true);
}

TEST_F(pair, read_each_other)
{
	uint64_t sum;
	int i;

	vsvm_fill(self->mem, self->size, 1);
	sum = vsvm_checksum(self->mem, self->size);
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu[0], self->mem, self->size,
				   DRM_VSVM_PLACE_DEVICE));
	for (i = 0; i < 6; i++)
		ASSERT_EQ(0, gpu_sum_is(&self->gpu[i & 1], self->mem,
					self->size, sum));
	/* With a way to the peer it stayed, else it went to the last reader. */
	EXPECT_EQ((long)self->npages,
		  vsvm_count(&self->gpu[!variant->peers], self->mem, self->size,
			     DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ((long)self->npages,
		  vsvm_count(&self->gpu[variant->peers], self->mem, self->size,
			     DRM_VSVM_PLACE_PEER));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
}

TEST_F(pair, ping_pong)
{
	struct drm_vsvm_op ops[3];
	int i;

	memset(self->mem, 0, self->size);
	for (i = 0; i < 20; i++) {
		ops[0] = vsvm_op_add(self->mem, 1, NULL);
		ops[1] = vsvm_op_copy(self->mem + 8, self->mem,
				      8);
		ops[2] = vsvm_op_fill(self->mem + self->page,
				      self->size - self->page, i);
		ASSERT_EQ(0, vsvm_run(&self->gpu[i & 1], ops, 3, NULL));
	}
	EXPECT_EQ(20ULL, *(uint64_t *)self->mem);
	EXPECT_EQ(20ULL, *(uint64_t *)(self->mem + 8));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem + self->page,
					self->size - self->page, 19));
}

TEST_F(pair, advise_device)
{
	uint64_t sum;
	int i;

	vsvm_fill(self->mem, self->size, 2);
	sum = vsvm_checksum(self->mem, self->size);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, vsvm_advise(&self->gpu[i], self->mem, self->size,
					 DRM_VSVM_ADVICE_DEVICE));
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, gpu_sum_is(&self->gpu[i & 1], self->mem,
					self->size, sum));
		EXPECT_EQ((long)self->npages,
			  vsvm_count(&self->gpu[i & 1], self->mem, self->size,
				     DRM_VSVM_PLACE_DEVICE));
	}
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 2));
}

/* With the link cut while one device has the other's memory mapped. */
TEST_F(pair, link_changes)
{
	uint64_t sum;
	int i;

	vsvm_fill(self->mem, self->size, 3);
	sum = vsvm_checksum(self->mem, self->size);
	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, vsvm_set_peers(i & 2));
		ASSERT_EQ(0, gpu_sum_is(&self->gpu[i & 1], self->mem,
					self->size, sum));
	}
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 3));
}

/* Two devices and a CPU add to the same words. */
TEST_F_TIMEOUT(pair, all_at_once, TIMEOUT)
{
	struct adder adder = {
		.mem = (uint64_t *)self->mem,
		.words = self->size / 8,
		.step = self->size / 8 / 8,
		.rounds = 100,
	};
	struct drm_vsvm_sync sync[2];
	struct drm_vsvm_op ops[8];
	pthread_t thread;
	int i, r;

	memset(self->mem, 0, self->size);
	for (i = 0; i < 8; i++)
		ops[i] = vsvm_op_add(adder.mem + i * adder.step, 1000, NULL);
	for (i = 0; i < 2; i++) {
		sync[i] = (struct drm_vsvm_sync) {
			.flags = DRM_VSVM_SYNC_SIGNAL,
		};
		ASSERT_EQ(0, vsvm_syncobj_create(self->gpu[i].fd,
						 &sync[i].handle));
	}
	ASSERT_EQ(0, pthread_create(&thread, NULL, add_by_cpu, &adder));
	for (r = 0; r < 10; r++)
		for (i = 0; i < 2; i++)
			ASSERT_EQ(0, vsvm_exec(&self->gpu[i], ops, 8, &sync[i],
					       1, NULL));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, vsvm_syncobj_wait(self->gpu[i].fd, sync[i].handle,
					       0, VSVM_WAIT_MS));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	for (i = 0; i < 8; i++)
		EXPECT_EQ(2 * 10 * 1000 + 100ULL, adder.mem[i * adder.step]);
}

/*
 * Others.
 */

struct uffd {
	int fd;
	char *mem;
	char *content;
	size_t page;
};

static void *serve_faults(void *arg)
{
	struct uffdio_copy copy;
	struct uffd *uffd = arg;
	struct uffd_msg msg;

	while (read(uffd->fd, &msg, sizeof(msg)) == sizeof(msg)) {
		copy = (struct uffdio_copy) {
			.dst = msg.arg.pagefault.address & ~(uffd->page - 1),
			.len = uffd->page,
		};
		copy.src = (uintptr_t)uffd->content + copy.dst -
			   (uintptr_t)uffd->mem;
		ioctl(uffd->fd, UFFDIO_COPY, &copy);
	}
	return NULL;
}

static int uffd_open(struct uffd *uffd, size_t size)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uintptr_t)uffd->mem, size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	uffd->fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd->fd < 0 || ioctl(uffd->fd, UFFDIO_API, &api) ||
	    ioctl(uffd->fd, UFFDIO_REGISTER, &reg))
		return -errno;
	return 0;
}

/*
 * Missing pages are up to the monitor that serves the faults: the device gets
 * its contents or an error, and never pages of zeroes.
 */
TEST_F(gpu, userfaultfd)
{
	size_t page = getpagesize(), n = 8, size = n * page, i;
	struct drm_vsvm_prefetch args;
	uint64_t want, sum = 0;
	struct uffd uffd;
	pthread_t thread;
	int ret;

	uffd.page = page;
	uffd.mem = vsvm_alloc(size, size);
	uffd.content = vsvm_alloc(size, size);
	ASSERT_NE(NULL, uffd.mem);
	ASSERT_NE(NULL, uffd.content);
	vsvm_fill(uffd.content, size, 1);
	want = vsvm_checksum(uffd.content, size);
	ASSERT_EQ(0, uffd_open(&uffd, size));
	ASSERT_EQ(0, pthread_create(&thread, NULL, serve_faults, &uffd));

	args = (struct drm_vsvm_prefetch) {
		.vm_id = self->gpu.vm,
		.flags = DRM_VSVM_PREFETCH_PARTIAL,
		.start = (uintptr_t)uffd.mem,
		.size = size,
		.place = DRM_VSVM_PLACE_DEVICE,
	};
	EXPECT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(0ULL, args.moved);
	EXPECT_EQ(n, args.left);

	ret = vsvm_gpu_checksum(&self->gpu, uffd.mem, size, &sum);
	EXPECT_TRUE(ret == EFAULT || (!ret && sum == want));

	/* With every second page there, then all of them. */
	for (i = 0; i < n; i += 2)
		vsvm_touch(uffd.mem + i * page);
	for (i = 0; i < n; i += 2) {
		EXPECT_EQ(0, vsvm_gpu_checksum(&self->gpu, uffd.mem + i * page, page,
					       &sum));
		EXPECT_EQ(vsvm_checksum(uffd.content + i * page, page), sum);
	}
	EXPECT_EQ(-1, vsvm_verify(uffd.mem, size, 1));
	EXPECT_EQ(0, vsvm_gpu_checksum(&self->gpu, uffd.mem, size, &sum));
	EXPECT_EQ(want, sum);
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, uffd.mem, size, 3));
	EXPECT_EQ(-1, vsvm_verify_value(uffd.mem, size, 3));

	ASSERT_EQ(0, pthread_cancel(thread));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	munmap(uffd.mem, size);
}

#define CGROUP "/sys/fs/cgroup/vsvm_test"
#define CGROUP_2 "/sys/fs/cgroup/vsvm_test_2"

/*
 * In a child, all of whose memory belongs to a new group, of at most @pages if
 * that is not 0.
 */
static int run_in_cgroup(size_t pages, int (*work)(struct vsvm_gpu *gpu))
{
	char limit[32] = "max";
	struct vsvm_gpu gpu;
	pid_t pid;

	if (mkdir(CGROUP, 0755))
		return -errno;
	pid = fork();
	if (pid)
		return vsvm_wait_child(pid);

	if (pages)
		snprintf(limit, sizeof(limit), "%zu", pages * getpagesize());
	if (vsvm_write_file(CGROUP "/memory.max", limit) ||
	    vsvm_write_file(CGROUP "/cgroup.procs", "0"))
		_exit(1);
	if (vsvm_gpu_open(&gpu, 0))
		_exit(2);
	_exit(work(&gpu));
}

/* Groups that were removed, but are still referred to */
static long nr_dying(void)
{
	return vsvm_file_figure("/sys/fs/cgroup/cgroup.stat",
				"nr_dying_descendants");
}

/* Whether there are no more than @nr of them, soon. */
static bool groups_die(long nr)
{
	int i;

	for (i = 0; i < 100 && nr_dying() > nr; i++) {
		/* Pages that wait to be put on a list */
		vsvm_write_file("/proc/sys/vm/compact_memory", "1");
		usleep(100 * 1000);
	}
	return nr_dying() <= nr;
}

/*
 * More than the limit of the group: the rest is swapped, nothing is lost.  In
 * pieces, since device memory counts and cannot be swapped.
 */
static int work_beyond_limit(struct vsvm_gpu *gpu)
{
	size_t piece = 128 * getpagesize(), i;
	char *mem[12];
	uint64_t sum;

	for (i = 0; i < 12; i++) {
		mem[i] = vsvm_alloc(piece, piece);
		if (!mem[i])
			return 3;
		vsvm_fill(mem[i], piece, i + 1);
	}
	for (i = 0; i < 12; i++) {
		if (vsvm_gpu_checksum(gpu, mem[i], piece, &sum))
			return 4;
		if (vsvm_prefetch(gpu, mem[i], piece, DRM_VSVM_PLACE_SYSTEM))
			return 5;
		if (vsvm_checksum(mem[i], piece) != sum)
			return 6;
	}
	for (i = 0; i < 12; i++)
		if (vsvm_verify(mem[i], piece, i + 1) != -1)
			return 7;
	return 0;
}

TEST_F_TIMEOUT(gpu, memcg_limit, TIMEOUT)
{
	if (!vsvm_has_memcg())
		SKIP(return, "no memory cgroups of version 2");
	EXPECT_EQ(0, run_in_cgroup(5 * 256, work_beyond_limit));
	EXPECT_LT(0, vsvm_file_figure(CGROUP "/memory.events", "max"));
	EXPECT_EQ(0, vsvm_file_figure(CGROUP "/memory.events", "oom_kill"));
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	/* Every mapping of a page was counted exactly once. */
	EXPECT_EQ(0, vsvm_wait_figure(CGROUP "/memory.stat", "anon", 0));
	EXPECT_EQ(0, rmdir(CGROUP));
}

/* A huge page to the device and back, again and again, charged all the time */
static int work_in_huge_page(struct vsvm_gpu *gpu)
{
	long few = 16 * getpagesize();
	double end = vsvm_now_ms() + 2000;
	char *mem = vsvm_alloc(2 * MiB, 2 * MiB);
	long before, after;
	int round, moved = 0, ret, i;

	if (!mem || madvise(mem, 2 * MiB, MADV_HUGEPAGE))
		return 3;
	vsvm_fill(mem, 2 * MiB, 1);
	/* Settled, see below. */
	sleep(vsvm_debug_kernel() ? 5 : 3);
	before = vsvm_file_figure(CGROUP "/memory.stat", "anon");
	for (round = 0; round < 10000 &&
	     (round < 50 || vsvm_now_ms() < end); round++) {
		ret = vsvm_prefetch(gpu, mem, 2 * MiB, DRM_VSVM_PLACE_DEVICE);
		if (ret && ret != -EBUSY)
			return 4;
		moved += !ret;
		if (round % 2)
			ret = vsvm_prefetch(gpu, mem, 2 * MiB,
					    DRM_VSVM_PLACE_SYSTEM);
		else
			mem[MiB]++;
		if (ret && ret != -EBUSY)
			return 5;
		if (!(round % 2))
			mem[MiB]--;
	}
	/*
	 * The kernel adds up the figures of all CPUs now and then.  The stack
	 * may have grown by a few pages, but not by one for each round.
	 */
	for (i = 0; i < 60; i++) {
		after = vsvm_file_figure(CGROUP "/memory.stat", "anon");
		if (labs(after - before) < few)
			break;
		usleep(100000);
	}
	printf("# %d rounds, %d to the device: %ld bytes charged before, %ld after\n",
	       round, moved, before, after);
	if (moved < round / 2)
		return 9;
	if (vsvm_verify(mem, 2 * MiB, 1) != -1)
		return 6;
	if (before < (long)(2 * MiB))
		return 7;
	return labs(after - before) < few ? 0 : 8;
}

TEST_F_TIMEOUT(gpu, memcg_charges_huge_page_once, TIMEOUT)
{
	long dying = nr_dying();

	if (!vsvm_has_memcg())
		SKIP(return, "no memory cgroups of version 2");
	if (!vsvm_huge_is(2 * MiB))
		SKIP(return, "no huge pages of 2 MiB");
	EXPECT_EQ(0, run_in_cgroup(0, work_in_huge_page));
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	EXPECT_EQ(0, vsvm_wait_figure(CGROUP "/memory.stat", "anon", 0));
	EXPECT_EQ(0, rmdir(CGROUP));
	EXPECT_TRUE(groups_die(dying));
}

/* A process may end with its memory on the device. */
static int work_and_leave(struct vsvm_gpu *gpu)
{
	char *mem = vsvm_alloc(2 * MiB, 2 * MiB);

	if (!mem || vsvm_no_huge(mem, 2 * MiB))
		return 3;
	vsvm_fill(mem, 2 * MiB, 1);
	return vsvm_prefetch(gpu, mem, 2 * MiB, DRM_VSVM_PLACE_DEVICE) ? 4 : 0;
}

/* Pages of two groups take turns. */
static int work_in_two_groups(struct vsvm_gpu *gpu)
{
	char *mem = vsvm_alloc(2 * MiB, 2 * MiB);
	size_t page = getpagesize(), i;

	if (!mem || vsvm_no_huge(mem, 2 * MiB))
		return 3;
	for (i = 0; i < 2 * MiB; i += 2 * page)
		vsvm_fill(mem + i, page, i);
	if (vsvm_write_file(CGROUP_2 "/cgroup.procs", "0"))
		return 4;
	for (i = page; i < 2 * MiB; i += 2 * page)
		vsvm_fill(mem + i, page, i);

	if (vsvm_prefetch(gpu, mem, 2 * MiB, DRM_VSVM_PLACE_DEVICE) ||
	    vsvm_prefetch(gpu, mem, 2 * MiB, DRM_VSVM_PLACE_SYSTEM))
		return 5;
	for (i = 0; i < 2 * MiB; i += page)
		if (vsvm_verify(mem + i, page, i) != -1)
			return 6;
	return vsvm_prefetch(gpu, mem, 2 * MiB, DRM_VSVM_PLACE_DEVICE) ? 7 : 0;
}

/* Of what has neither pages nor processes, nothing is counted. */
static void expect_empty(struct __test_metadata *_metadata, const char *stat)
{
	EXPECT_EQ(0, vsvm_wait_figure(stat, "anon", 0));
	EXPECT_EQ(0, vsvm_wait_figure(stat, "inactive_anon", 0));
	EXPECT_EQ(0, vsvm_wait_figure(stat, "active_anon", 0));
}

TEST_F_TIMEOUT(gpu, memcg_is_empty_after_exit, TIMEOUT)
{
	if (!vsvm_has_memcg())
		SKIP(return, "no memory cgroups of version 2");
	EXPECT_EQ(0, run_in_cgroup(0, work_and_leave));
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	expect_empty(_metadata, CGROUP "/memory.stat");
	EXPECT_EQ(0, rmdir(CGROUP));
}

TEST_F_TIMEOUT(gpu, memcgs_share_range, TIMEOUT)
{
	if (!vsvm_has_memcg())
		SKIP(return, "no memory cgroups of version 2");
	ASSERT_EQ(0, mkdir(CGROUP_2, 0755));
	EXPECT_EQ(0, run_in_cgroup(0, work_in_two_groups));
	EXPECT_EQ(0, vsvm_wait_used(self->gpu.fd, self->gpu.stats.vram_used));
	expect_empty(_metadata, CGROUP "/memory.stat");
	expect_empty(_metadata, CGROUP_2 "/memory.stat");
	EXPECT_EQ(0, rmdir(CGROUP));
	EXPECT_EQ(0, rmdir(CGROUP_2));
}

/*
 * One process has huge pages on the device, and another one, of another group,
 * evicts them.
 */

#define HUGE_PAGES	4L

enum {
	NO_HUGE_PAGES = 77,
};

static int own_huge_pages(struct vsvm_gpu *gpu, int parent)
{
	size_t size = HUGE_PAGES * 2 * MiB, i;
	char *mem = vsvm_alloc(size, 2 * MiB);

	if (!mem || madvise(mem, size, MADV_HUGEPAGE))
		return 3;
	vsvm_fill(mem, size, 1);
	if (vsvm_mapped_huge(mem, size) != (long)size)
		return NO_HUGE_PAGES;
	for (i = 0; i < size; i += 2 * MiB)
		if (vsvm_prefetch(gpu, mem + i, 2 * MiB, DRM_VSVM_PLACE_DEVICE))
			return 4;
	if (!handshake(parent, parent))
		return 5;
	if (vsvm_mapped_huge(mem, size) != (long)size)
		return 6;
	return vsvm_verify(mem, size, 1) == -1 ? 0 : 7;
}

static int evict_huge_pages(struct vsvm_gpu *gpu, int parent)
{
	size_t size = gpu->query.vram_size / (2 * MiB) * (2 * MiB), i;
	char *mem = vsvm_alloc(size, 2 * MiB);

	if (!mem || madvise(mem, size, MADV_HUGEPAGE))
		return 3;
	vsvm_fill(mem, size, 2);
	if (!handshake(parent, parent))
		return 4;
	for (i = 0; i < size; i += 2 * MiB)
		if (vsvm_prefetch(gpu, mem + i, 2 * MiB, DRM_VSVM_PLACE_DEVICE))
			return 5;
	return handshake(parent, parent) ? 0 : 6;
}

/* A child in @group that does @work; returns its pid, and a socket to it. */
static pid_t fork_in_cgroup(const char *group, int *child,
			    int (*work)(struct vsvm_gpu *gpu, int parent))
{
	struct vsvm_gpu gpu;
	int fd[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd))
		return -1;
	*child = fd[0];
	pid = fork();
	if (pid) {
		close(fd[1]);
		return pid;
	}
	close(fd[0]);
	if (chdir(group) || vsvm_write_file("cgroup.procs", "0"))
		_exit(1);
	if (vsvm_gpu_open(&gpu, 0))
		_exit(2);
	_exit(work(&gpu, fd[1]));
}

/* Bytes of page tables of a group */
static long tables(const char *stat)
{
	return vsvm_file_figure(stat, "pagetables");
}

/* The figures come a few seconds late. */
static void settle(void)
{
	sleep(vsvm_debug_kernel() ? 5 : 3);
}

/* The page table behind a huge page that is evicted is paid for by its owner. */
TEST_F_TIMEOUT(gpu, memcg_pays_for_evicted, TIMEOUT)
{
	long owned, others, few = HUGE_PAGES / 2 * getpagesize();
	int owner, evictor, status;
	pid_t pid, evictor_pid;
	char byte;

	if (!vsvm_has_memcg())
		SKIP(return, "no memory cgroups of version 2");
	if (!vsvm_huge_is(2 * MiB))
		SKIP(return, "no huge pages of 2 MiB");
	if (vsvm_coherent(&self->gpu))
		SKIP(return, "no huge page comes back from the device");

	ASSERT_EQ(0, mkdir(CGROUP, 0755));
	ASSERT_EQ(0, mkdir(CGROUP_2, 0755));
	pid = fork_in_cgroup(CGROUP, &owner, own_huge_pages);
	ASSERT_LT(0, pid);
	EXPECT_EQ(1, read(owner, &byte, 1));
	evictor_pid = fork_in_cgroup(CGROUP_2, &evictor, evict_huge_pages);
	ASSERT_LT(0, evictor_pid);
	EXPECT_EQ(1, read(evictor, &byte, 1));

	settle();
	owned = tables(CGROUP "/memory.stat");
	others = tables(CGROUP_2 "/memory.stat");
	EXPECT_LE(HUGE_PAGES * getpagesize(), owned);
	EXPECT_TRUE(handshake(evictor, evictor));
	settle();
	EXPECT_LT(owned - few, tables(CGROUP "/memory.stat"));
	EXPECT_GT(others + few, tables(CGROUP_2 "/memory.stat"));

	EXPECT_EQ(1, write(evictor, &byte, 1));
	EXPECT_EQ(1, write(owner, &byte, 1));
	EXPECT_EQ(0, vsvm_wait_child(evictor_pid));
	status = vsvm_wait_child(pid);
	close(evictor);
	close(owner);
	EXPECT_EQ(0, rmdir(CGROUP));
	EXPECT_EQ(0, rmdir(CGROUP_2));
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_HUGE_PAGES)
		SKIP(return, "no huge pages");
	EXPECT_EQ(0, status);
}

/* A table of the device has as many entries of eight bytes as fit in a page. */
#define TABLE_ENTRIES	(getpagesize() / 8)
#define TABLE_SIZE	(TABLE_ENTRIES * 8L)
#define TABLES		128

/*
 * One page in each: with all of their pages DMA-API debugging would have to
 * search, for each mapping of the zero page, all others.
 */
static int work_in_many_tables(struct vsvm_gpu *gpu)
{
	size_t page = getpagesize(), i;
	uint64_t sum;
	char *mem;

	for (i = 0; i < TABLES; i++) {
		mem = vsvm_alloc(page, TABLE_ENTRIES * page);
		if (!mem || vsvm_advise(gpu, mem, page, DRM_VSVM_ADVICE_SYSTEM))
			return 3;
		if (vsvm_gpu_checksum(gpu, mem, 8, &sum))
			return 4;
	}
	/* The figures come a few seconds late. */
	for (i = 0; i < 100; i++) {
		if (vsvm_file_figure(CGROUP "/memory.stat", "slab") >=
		    TABLES * TABLE_SIZE)
			return 0;
		usleep(100 * 1000);
	}
	return 5;
}

/* The device's page tables are charged to the owner of the memory. */
TEST_F_TIMEOUT(gpu, memcg_pays_for_tables, TIMEOUT)
{
	if (!vsvm_has_memcg())
		SKIP(return, "no memory cgroups of version 2");
	EXPECT_EQ(0, run_in_cgroup(0, work_in_many_tables));
	EXPECT_EQ(0, rmdir(CGROUP));
}

/*
 * A job that needs more than there is.  Each page is a mapping of its own, which
 * the device has read, so that next to nothing but the pages is left to allocate.
 * Returns its error, or -1.
 */
static int job_beyond_limit(struct vsvm_gpu *gpu)
{
	size_t page = getpagesize(), i, n = gpu->query.max_ops;
	struct drm_vsvm_op *ops = calloc(n, sizeof(*ops));
	char *mem = vsvm_alloc(2 * n * page, page);

	if (!ops || !mem ||
	    vsvm_advise(gpu, mem, 2 * n * page, DRM_VSVM_ADVICE_SYSTEM))
		return -1;
	for (i = 0; i < n; i++) {
		if (mprotect(mem + (2 * i + 1) * page, page, PROT_READ))
			return -1;
		ops[i] = vsvm_op_checksum(mem + 2 * i * page, 8, gpu->result);
	}
	if (vsvm_run(gpu, ops, n, NULL))
		return -1;
	for (i = 0; i < n; i++)
		ops[i] = vsvm_op_fill(mem + 2 * i * page, 8, 1);
	return vsvm_run(gpu, ops, n, NULL);
}

static int work_without_memory(struct vsvm_gpu *gpu)
{
	/* No process to kill, and nothing to swap. */
	if (vsvm_write_file("/proc/self/oom_score_adj", "-1000") ||
	    vsvm_write_file(CGROUP "/memory.swap.max", "0"))
		return 3;
	return job_beyond_limit(gpu) == ENOMEM ? 0 : 4;
}

/* The error must not blame the address. */
TEST_F_TIMEOUT(gpu, memcg_without_memory, TIMEOUT)
{
	if (!vsvm_has_memcg())
		SKIP(return, "no memory cgroups of version 2");
	/* The kernel's report that there is no process to kill is expected. */
	ASSERT_EQ(0, vsvm_write_file("/proc/sys/kernel/printk", "1"));
	EXPECT_EQ(0, run_in_cgroup(4 * 256, work_without_memory));
	EXPECT_EQ(0, vsvm_write_file("/proc/sys/kernel/printk", "7"));
	EXPECT_LT(0, vsvm_file_figure(CGROUP "/memory.events", "oom"));
	EXPECT_EQ(0, rmdir(CGROUP));
}

/* A working set of more than the device has, over and over. */
TEST_F_TIMEOUT(gpu, thrash, TIMEOUT)
{
	struct drm_vsvm_stats before, after;
	size_t size, piece, i, bad = 0;
	uint64_t one = 1;
	uint64_t *mem;
	int round;

	size = self->gpu.query.vram_size * 5 / 4;
	piece = self->gpu.query.chunk_size / 2;
	mem = vsvm_alloc(size, self->gpu.query.chunk_size);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, vsvm_stats(self->gpu.fd, &before));

	for (i = 0; i < size; i += piece)
		ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, mem + i / 8, piece, i + 1));
	/* Each round doubles all. */
	for (round = 0; round < 2; round++)
		for (i = 0; i < size; i += piece)
			ASSERT_EQ(0, vsvm_gpu_muladd(&self->gpu, mem + i / 8,
						     mem + i / 8, &one,
						     piece));
	ASSERT_EQ(0, vsvm_stats(self->gpu.fd, &after));
	EXPECT_LE(after.vram_used, self->gpu.query.vram_size);
	EXPECT_LT(before.evictions, after.evictions);
	for (i = 0; i < size; i += piece)
		bad += vsvm_verify_value(mem + i / 8, piece, 4 * (i + 1)) != -1;
	EXPECT_EQ(0, bad);
	munmap(mem, size);
}

/* GPU SVM keeps an address of 16 bytes for each page of a range. */
#define RANGES		16
#define RANGE_SIZE	(TABLE_SIZE + TABLE_ENTRIES * 16L)

/*
 * Full ranges: next to the table, each has an array of addresses, and here none
 * of its entries goes for two pages, since all are the zero page.
 */
static int work_in_full_ranges(struct vsvm_gpu *gpu)
{
	size_t size = (size_t)TABLE_ENTRIES * getpagesize(), i;
	uint64_t sum;
	char *mem;
	long slab;

	mem = vsvm_alloc(RANGES * size, size);
	if (!mem || vsvm_no_huge(mem, RANGES * size) ||
	    vsvm_advise(gpu, mem, RANGES * size, DRM_VSVM_ADVICE_SYSTEM))
		return 3;
	/* Ranges have that size only where memory is mapped. */
	for (i = 0; i < RANGES * size; i += getpagesize())
		vsvm_touch(mem + i);
	usleep(3000 * 1000);
	slab = vsvm_file_figure(CGROUP "/memory.stat", "slab");
	if (slab < 0)
		return 4;
	for (i = 0; i < RANGES; i++)
		if (vsvm_gpu_checksum(gpu, mem + i * size, 8, &sum))
			return 5;
	for (i = 0; i < 100; i++) {
		if (vsvm_file_figure(CGROUP "/memory.stat", "slab") - slab >=
		    RANGES * RANGE_SIZE)
			return 0;
		usleep(100 * 1000);
	}
	return 6;
}

TEST_F_TIMEOUT(gpu, memcg_pays_for_full_ranges, TIMEOUT)
{
	if (!vsvm_has_memcg())
		SKIP(return, "no memory cgroups of version 2");
	if (self->gpu.query.chunk_size !=
	    (uint64_t)TABLE_ENTRIES * getpagesize())
		SKIP(return, "no range is as large as a table");
	EXPECT_EQ(0, run_in_cgroup(0, work_in_full_ranges));
	EXPECT_EQ(0, rmdir(CGROUP));
}

TEST_HARNESS_MAIN
