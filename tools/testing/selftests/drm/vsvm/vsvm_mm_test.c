// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of the rest of memory management with memory that is on the device:
 * samepage merging, locking, write tracking, protection, collapse, compaction,
 * and faults that are unrelated to the device.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <linux/const.h>
#include <linux/fs.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#ifndef SYS_memfd_secret
#define SYS_memfd_secret	447
#endif

#define TIMEOUT		180
#define NPAGES		64
#define MiB		(1024UL * 1024)
#define HUGE		(2 * MiB)
#define KSM		"/sys/kernel/mm/ksm/"
#define KHUGEPAGED	"/sys/kernel/mm/transparent_hugepage/khugepaged/"

#define PM_SOFT_DIRTY	_BITULL(55)

/* Limit for anything that must not wait, on a slow machine. */
#define AT_ONCE_MS	2500

FIXTURE(mm)
{
	struct vsvm_gpu gpu;
	size_t page;
	size_t size;
	char *mem;
};

FIXTURE_SETUP(mm)
{
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	self->page = getpagesize();
	self->size = NPAGES * self->page;
	self->mem = vsvm_alloc(self->size, HUGE);
	ASSERT_NE(NULL, self->mem);
	vsvm_fill(self->mem, self->size, 1);
}

FIXTURE_TEARDOWN(mm)
{
	munmap(self->mem, self->size);
	EXPECT_EQ(0, vsvm_wait_used_ms(self->gpu.fd, self->gpu.stats.vram_used,
				       10000));
	vsvm_gpu_close(&self->gpu);
}

static int to_device(struct vsvm_gpu *gpu, void *mem, size_t size)
{
	return vsvm_prefetch(gpu, mem, size, DRM_VSVM_PLACE_DEVICE);
}

/* As much as can be moved, for a while or not. */
static int prefetch_some(struct vsvm_gpu *gpu, void *mem, size_t size,
			 uint32_t timeslice_ms)
{
	struct drm_vsvm_prefetch args = {
		.vm_id = gpu->vm,
		.flags = DRM_VSVM_PREFETCH_PARTIAL,
		.start = (uintptr_t)mem,
		.size = size,
		.place = DRM_VSVM_PLACE_DEVICE,
		.timeslice_ms = timeslice_ms,
	};

	return vsvm_ioctl(gpu->fd, DRM_IOCTL_VSVM_PREFETCH, &args);
}

static long on_device(struct vsvm_gpu *gpu, void *mem, size_t size)
{
	return vsvm_count(gpu, mem, size, DRM_VSVM_PLACE_DEVICE);
}

/*
 * Samepage merging.
 */

static int ksm_start(void)
{
	/* Not there on every kernel. */
	vsvm_write_file(KSM "smart_scan", "0");
	if (vsvm_write_file(KSM "pages_to_scan", "500") ||
	    vsvm_write_file(KSM "sleep_millisecs", "1"))
		return -errno;
	return vsvm_write_file(KSM "run", "1");
}

static void ksm_stop(void)
{
	vsvm_write_file(KSM "run", "2");
	vsvm_write_file(KSM "run", "0");
	vsvm_write_file(KSM "pages_to_scan", "100");
	vsvm_write_file(KSM "sleep_millisecs", "20");
	vsvm_write_file(KSM "smart_scan", "1");
}

static void fill_alike(char *mem, size_t size, size_t page)
{
	size_t i;

	for (i = 0; i < size; i += page)
		vsvm_fill(mem + i, page, 7);
}

static bool all_alike(char *mem, size_t size, size_t page)
{
	size_t i;

	for (i = 0; i < size; i += page)
		if (vsvm_verify(mem + i, page, 7) != -1)
			return false;
	return true;
}

/*
 * A page that ksmd is merging is mapped as a KSM page before ksmd has recorded
 * where: a migration entry put there at that time would never be found again.
 */
TEST_F_TIMEOUT(mm, ksm_scan_during_prefetch, TIMEOUT)
{
	double end = vsvm_now_ms() + 4000;
	long max_shared = 0, shared;
	int round, ret = 0;
	bool good = true;
	pid_t pid;

	ASSERT_EQ(0, ksm_start());
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_MERGEABLE));
	for (round = 0; good && !ret && vsvm_now_ms() < end; round++) {
		/* The same again, but in pages of its own. */
		if (round % 8 == 0)
			fill_alike(self->mem, self->size, self->page);
		ret = prefetch_some(&self->gpu, self->mem, self->size, 0);
		if (round % 4 == 1) {
			pid = fork();
			if (!pid)
				_exit(!all_alike(self->mem, self->size,
						 self->page));
			good = !vsvm_wait_child(pid);
		}
		good = good && all_alike(self->mem, self->size, self->page);
		/* All of it that can: ksmd merges nothing on the device. */
		vsvm_bring_back(&self->gpu, self->mem, self->size);
		shared = vsvm_file_figure(KSM "pages_sharing", "");
		if (shared > max_shared)
			max_shared = shared;
	}
	EXPECT_EQ(0, ret);
	EXPECT_TRUE(good);
	EXPECT_LT(0, max_shared);
	ksm_stop();
	EXPECT_TRUE(all_alike(self->mem, self->size, self->page));
}

/*
 * Memory that no device may have.
 */

/* A job that is given secret memory fails, and nothing else does. */
TEST_F(mm, secretmem_is_refused)
{
	size_t size = 4 * self->page;
	char *secret;
	uint64_t sum;
	int fd;

	fd = syscall(SYS_memfd_secret, 0);
	if (fd < 0)
		SKIP(return, "no secret memory");
	ASSERT_EQ(0, ftruncate(fd, size));
	secret = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, secret);
	vsvm_fill(secret, size, 5);

	EXPECT_EQ(EFAULT, vsvm_gpu_checksum(&self->gpu, secret, size, &sum));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, secret, size, 1));
	EXPECT_EQ(EFAULT, vsvm_gpu_copy(&self->gpu, self->mem, secret, size));
	EXPECT_EQ(-EOPNOTSUPP, to_device(&self->gpu, secret, size));
	EXPECT_EQ(-1, vsvm_verify(secret, size, 5));

	/* The worker goes on, and memory can be unmapped. */
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 6));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 6));
	EXPECT_EQ(0, munmap(secret, size));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, secret, size, 1));
	close(fd);
}

/*
 * Locked memory.
 */

static int use_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

/*
 * Fewer pages than fit into the batch of locked pages of a CPU, which then has
 * nothing more to do: no page of the device may wait there.
 */
TEST_F(mm, mlock_munmap_returns_device_memory)
{
	size_t size = 8 * self->page;
	int round;

	munmap(self->mem, self->size);
	ASSERT_EQ(0, vsvm_wait_used_ms(self->gpu.fd, self->gpu.stats.vram_used,
				       10000));
	for (round = 0; round < 4; round++) {
		char *mem = vsvm_alloc(size, size);

		ASSERT_NE(NULL, mem);
		ASSERT_EQ(0, use_cpu(0));
		ASSERT_EQ(0, mlock(mem, size));
		vsvm_fill(mem, size, round);
		ASSERT_EQ(0, to_device(&self->gpu, mem, size));
		ASSERT_EQ(8, on_device(&self->gpu, mem, size));
		if (round & 1)
			ASSERT_EQ(0, munlock(mem, size));
		munmap(mem, size);
		ASSERT_EQ(0, use_cpu(1));
		ASSERT_EQ(0, vsvm_wait_used_ms(self->gpu.fd,
					       self->gpu.stats.vram_used,
					       5000));
	}
}

static long mlocked_kb(void)
{
	/* Fold the counts of each CPU into the sum. */
	vsvm_write_file("/proc/sys/vm/stat_refresh", "1");
	return vsvm_file_figure("/proc/meminfo", "Mlocked");
}

/* However locked memory leaves the device, it is not counted any more. */
TEST_F(mm, mlocked_is_balanced)
{
	size_t locked = 8 * MiB;
	char *ballast = vsvm_alloc(locked, HUGE);
	long limit = NPAGES * 2 * self->page / 1024;
	long before, after;
	int round;

	/* So that too little shows as well. */
	ASSERT_NE(NULL, ballast);
	ASSERT_EQ(0, mlock(ballast, locked));
	before = mlocked_kb();
	ASSERT_LT(0, before);
	for (round = 0; round < 24; round++) {
		char *mem = vsvm_alloc(self->size, self->size);

		ASSERT_NE(NULL, mem);
		ASSERT_EQ(0, mlock(mem, self->size));
		vsvm_fill(mem, self->size, round);
		ASSERT_EQ(0, to_device(&self->gpu, mem, self->size));
		if (round % 3 == 1)
			EXPECT_EQ(-1, vsvm_verify(mem, self->size, round));
		if (round % 3 != 2)
			ASSERT_EQ(0, munlock(mem, self->size));
		munmap(mem, self->size);
	}
	after = mlocked_kb();
	/* Less than a batch of each CPU, and than two rounds. */
	EXPECT_GT(limit, after - before);
	EXPECT_LT(-limit, after - before);
	munmap(ballast, locked);
}

/*
 * Tracking of writes sees those of the device.
 */

static int pagemap_bits(void *mem, size_t n, uint64_t *entry)
{
	off_t pos = (uintptr_t)mem / getpagesize() * sizeof(*entry);
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ssize_t len = n * sizeof(*entry);
	int ret;

	if (fd < 0)
		return -errno;
	ret = pread(fd, entry, len, pos) == len ? 0 : -EIO;
	close(fd);
	return ret;
}

static long soft_dirty(void *mem, size_t n)
{
	uint64_t entry[NPAGES];
	long count = 0;
	size_t i;
	int ret;

	ret = pagemap_bits(mem, n, entry);
	for (i = 0; i < n && !ret; i++)
		count += !!(entry[i] & PM_SOFT_DIRTY);
	return ret ? ret : count;
}

static int clear_soft_dirty(void)
{
	return vsvm_write_file("/proc/self/clear_refs", "4");
}

/* Each time it is cleared, the next write shows: there, and after return. */
TEST_F(mm, soft_dirty_shows_device_writes)
{
	size_t half = self->size / 2, i;
	int round;

	if (!vsvm_has_soft_dirty())
		SKIP(return, "no soft-dirty bits");
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	for (round = 1; round <= 3; round++) {
		ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size,
					   round));
		ASSERT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));
		ASSERT_EQ(NPAGES, soft_dirty(self->mem, NPAGES));
		ASSERT_EQ(0, clear_soft_dirty());
		ASSERT_EQ(0, soft_dirty(self->mem, NPAGES));

		ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, half,
					   10 + round));
		EXPECT_EQ(NPAGES / 2, soft_dirty(self->mem, NPAGES / 2));
		/* No page had to move for that. */
		EXPECT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));
		for (i = 0; i < NPAGES && round == 2; i++)
			vsvm_touch(self->mem + i * self->page);
		EXPECT_EQ(NPAGES / 2, soft_dirty(self->mem, NPAGES / 2));
		EXPECT_EQ(-1, vsvm_verify_value(self->mem, half, 10 + round));
		EXPECT_EQ(-1, vsvm_verify_value(self->mem + half, half, round));
	}
}

/*
 * The same for memory that the device only read before, and for prefetched
 * memory.
 */
TEST_F(mm, soft_dirty_after_clear_then_prefetch)
{
	uint64_t sum;

	if (!vsvm_has_soft_dirty())
		SKIP(return, "no soft-dirty bits");
	ASSERT_EQ(0, clear_soft_dirty());
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, vsvm_gpu_checksum(&self->gpu, self->mem, self->size,
				       &sum));
	EXPECT_EQ(0, soft_dirty(self->mem, NPAGES));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	EXPECT_EQ(NPAGES, soft_dirty(self->mem, NPAGES));
	ASSERT_EQ(0, clear_soft_dirty());
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(0, soft_dirty(self->mem, NPAGES));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 2));
}

/* A change of protection does not clear the record of writes. */
TEST_F(mm, soft_dirty_outlives_mprotect_and_fork)
{
	pid_t pid;

	if (!vsvm_has_soft_dirty())
		SKIP(return, "no soft-dirty bits");
	ASSERT_EQ(0, clear_soft_dirty());
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	ASSERT_EQ(NPAGES, soft_dirty(self->mem, NPAGES));
	ASSERT_EQ(0, mprotect(self->mem, self->size, PROT_READ));
	EXPECT_EQ(NPAGES, soft_dirty(self->mem, NPAGES));
	ASSERT_EQ(0, mprotect(self->mem, self->size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(NPAGES, soft_dirty(self->mem, NPAGES));
	/* The half that the device writes to again gets new entries. */
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size / 2, 3));
	pid = fork();
	if (!pid)
		_exit(0);
	ASSERT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(NPAGES, soft_dirty(self->mem, NPAGES));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size / 2, 3));
	EXPECT_EQ(NPAGES, soft_dirty(self->mem, NPAGES));
}

static int uffd_register(void *mem, size_t size, uint64_t mode,
			 uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = {
		.range = { (uintptr_t)mem, size },
		.mode = mode,
	};
	int fd, ret;

	fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &reg))
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

static int uffd_protect(int uffd, void *mem, size_t size, bool protect)
{
	struct uffdio_writeprotect args = {
		.range = { (uintptr_t)mem, size },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(uffd, UFFDIO_WRITEPROTECT, &args) ? -errno : 0;
}

/* Number of pages that PAGEMAP_SCAN reports as written. */
static long written(void *mem, size_t size)
{
	struct page_region region[NPAGES];
	struct pm_scan_arg args = {
		.size = sizeof(args),
		.start = (uintptr_t)mem,
		.end = (uintptr_t)mem + size,
		.vec = (uintptr_t)region,
		.vec_len = NPAGES,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
	long count = 0;
	int fd, i, n;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = ioctl(fd, PAGEMAP_SCAN, &args);
	if (n < 0)
		count = -errno;
	close(fd);
	for (i = 0; i < n; i++)
		count += (region[i].end - region[i].start) / getpagesize();
	return count;
}

/* Write protection that ends by itself, and is set by PAGEMAP_SCAN. */
TEST_F(mm, uffd_wp_async_shows_device_writes)
{
	size_t half = self->size / 2;
	uint64_t sum;
	int uffd, round;

	uffd = uffd_register(self->mem, self->size, UFFDIO_REGISTER_MODE_WP,
			     UFFD_FEATURE_WP_ASYNC |
			     UFFD_FEATURE_WP_UNPOPULATED);
	ASSERT_LE(0, uffd);
	for (round = 1; round <= 3; round++) {
		/* In RAM, on the device, and mapped by it. */
		if (round == 2)
			ASSERT_EQ(0, to_device(&self->gpu, self->mem,
					       self->size));
		ASSERT_EQ(0, uffd_protect(uffd, self->mem, self->size, true));
		if (round == 1)
			ASSERT_EQ(0, to_device(&self->gpu, self->mem,
					       self->size));
		ASSERT_EQ(0, written(self->mem, self->size));
		EXPECT_EQ(0, vsvm_gpu_checksum(&self->gpu, self->mem,
					       self->size, &sum));
		EXPECT_EQ(0, written(self->mem, self->size));
		EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, half, round));
		EXPECT_EQ(NPAGES / 2, written(self->mem, half));
		EXPECT_EQ(-1, vsvm_verify_value(self->mem, half, round));
		EXPECT_EQ(NPAGES / 2, written(self->mem, half));
	}
	close(uffd);
}

struct protector {
	int uffd;
	size_t page;
	atomic_int events;
};

/* Let each writer continue. */
static void *unprotect(void *arg)
{
	struct protector *p = arg;
	struct uffd_msg msg;
	uintptr_t page;

	while (read(p->uffd, &msg, sizeof(msg)) == sizeof(msg)) {
		page = msg.arg.pagefault.address & ~(p->page - 1);
		if (msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP)
			atomic_fetch_add(&p->events, 1);
		uffd_protect(p->uffd, (void *)page, p->page, false);
	}
	return NULL;
}

/* Write protection that a monitor has to end: a device does not write. */
TEST_F(mm, uffd_wp_sync_stops_device_writes)
{
	struct protector p = { .page = self->page };
	pthread_t thread;
	size_t i;

	p.uffd = uffd_register(self->mem, self->size, UFFDIO_REGISTER_MODE_WP,
			       UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	ASSERT_LE(0, p.uffd);
	ASSERT_EQ(0, uffd_protect(p.uffd, self->mem, self->size, true));
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));

	/* Writes of the CPU are reported, wherever the memory was. */
	ASSERT_EQ(0, prefetch_some(&self->gpu, self->mem, self->size, 0));
	ASSERT_EQ(0, pthread_create(&thread, NULL, unprotect, &p));
	for (i = 0; i < NPAGES / 2; i++)
		self->mem[i * self->page] = 9;
	EXPECT_EQ(NPAGES / 2, atomic_load(&p.events));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	ASSERT_EQ(0, pthread_cancel(thread));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	close(p.uffd);
	/* No monitor is left to ask. */
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 2));
}

/*
 * Protection.
 */

/*
 * On the device by a prefetch, and not by a fault: pages that leave it are not
 * brought back by the next access, which would hide that.
 */
static int prefetch_once(struct vsvm_gpu *gpu, void *mem, size_t size)
{
	int ret;

	ret = vsvm_advise(gpu, mem, size, DRM_VSVM_ADVICE_SYSTEM);
	if (!ret)
		ret = to_device(gpu, mem, size);
	if (!ret)
		ret = vsvm_gpu_fill(gpu, mem, size, 2);
	return ret;
}

/* Pages that became writable again are written in place. */
TEST_F(mm, one_read_only_page_of_many_stays)
{
	size_t at = 10 * self->page;

	ASSERT_EQ(0, prefetch_once(&self->gpu, self->mem, self->size));
	ASSERT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));
	ASSERT_EQ(0, mprotect(self->mem + at, self->page, PROT_READ));
	ASSERT_EQ(0, mprotect(self->mem + at, self->page,
			      PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 3));
	EXPECT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 3));
}

/* All entries are read-only after fork(), and the child has ended soon. */
TEST_F(mm, fork_and_exec_leaves_memory_on_device)
{
	pid_t pid;

	ASSERT_EQ(0, prefetch_once(&self->gpu, self->mem, self->size));
	ASSERT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));
	pid = fork();
	if (!pid) {
		execl("/bin/true", "true", NULL);
		_exit(1);
	}
	ASSERT_EQ(0, vsvm_wait_child(pid));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 3));
	EXPECT_EQ(NPAGES, on_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 3));
}

/*
 * Timeslices are for the process that asked for one.
 */

/* A child takes memory that it has in common with its parent. */
static void child_takes(char *mem, size_t size, int ready, int done)
{
	struct vsvm_gpu gpu;
	char byte = 0;

	if (vsvm_gpu_open(&gpu, 0))
		_exit(1);
	if (prefetch_some(&gpu, mem, size, 5000))
		_exit(2);
	if (on_device(&gpu, mem, size) != (long)(size / getpagesize()))
		_exit(3);
	if (write(ready, &byte, 1) != 1 || read(done, &byte, 1) != 1)
		_exit(4);
	_exit(vsvm_verify(mem, size, 1) != -1);
}

TEST_F(mm, timeslice_of_child_spares_parent)
{
	int ready[2], done[2];
	double began;
	char byte = 0;
	pid_t pid;

	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, pipe(done));
	pid = fork();
	if (!pid)
		child_takes(self->mem, self->size, ready[1], done[0]);
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	began = vsvm_now_ms();
	vsvm_touch(self->mem);
	EXPECT_GT(AT_ONCE_MS, vsvm_now_ms() - began);
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	EXPECT_GT(AT_ONCE_MS, vsvm_now_ms() - began);
	ASSERT_EQ(1, write(done[1], &byte, 1));
	EXPECT_EQ(0, vsvm_wait_child(pid));
	close(ready[0]);
	close(done[0]);
	close(done[1]);
}

/* Another process reads the memory, which is no CPU access of the owner. */
TEST_F(mm, timeslice_spares_debugger)
{
	struct iovec local, remote = { self->mem, self->size };
	double began;
	pid_t pid;
	char *copy;

	ASSERT_EQ(0, prefetch_some(&self->gpu, self->mem, self->size, 5000));
	began = vsvm_now_ms();
	pid = fork();
	if (!pid) {
		copy = vsvm_alloc(self->size, self->page);
		local = (struct iovec) { copy, self->size };
		if (process_vm_readv(getppid(), &local, 1, &remote, 1, 0) !=
		    (ssize_t)self->size)
			_exit(1);
		_exit(vsvm_verify(copy, self->size, 1) != -1);
	}
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_GT(AT_ONCE_MS, vsvm_now_ms() - began);
}

/* khugepaged comes across pages in a timeslice, and continues to scan. */
TEST_F(mm, timeslice_spares_khugepaged)
{
	size_t some = 16 * self->page;
	char *mem = vsvm_alloc(HUGE, HUGE);
	long before, scans;

	ASSERT_NE(NULL, mem);
	if (!vsvm_huge_is(HUGE))
		SKIP(return, "no huge pages of this size");
	ASSERT_EQ(0, vsvm_no_huge(mem, HUGE));
	vsvm_fill(mem, HUGE, 3);
	ASSERT_EQ(0, prefetch_some(&self->gpu, mem, some, 8000));
	ASSERT_EQ(16, on_device(&self->gpu, mem, some));
	ASSERT_EQ(0, vsvm_write_file(KHUGEPAGED "scan_sleep_millisecs", "50"));
	ASSERT_EQ(0, vsvm_write_file(KHUGEPAGED "pages_to_scan", "4096"));
	ASSERT_EQ(0, madvise(mem, HUGE, MADV_HUGEPAGE));
	before = vsvm_file_figure(KHUGEPAGED "full_scans", "");
	usleep(3000 * 1000);
	scans = vsvm_file_figure(KHUGEPAGED "full_scans", "") - before;
	vsvm_write_file(KHUGEPAGED "scan_sleep_millisecs", "10000");
	EXPECT_LT(3, scans);
	EXPECT_EQ(-1, vsvm_verify(mem, HUGE, 3));
	munmap(mem, HUGE);
}

/*
 * A sleeper of a timeslice is woken when the page is not there any more.
 */

FIXTURE(sleeper)
{
	struct vsvm_gpu gpu;
	size_t page;
	size_t size;
	char *mem;
};

/* Have the page go away. */
typedef int (*sleeper_fn)(struct _test_data_sleeper *self);

FIXTURE_VARIANT(sleeper)
{
	sleeper_fn wake;
	bool discarded;
};

static int wake_by_read(struct _test_data_sleeper *self)
{
	char *copy = malloc(self->size);
	struct iovec local = { copy, self->size };
	struct iovec remote = { self->mem, self->size };
	ssize_t n;

	n = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	free(copy);
	return n == (ssize_t)self->size ? 0 : -EIO;
}

static int wake_by_munmap(struct _test_data_sleeper *self)
{
	/* The new mapping is there at once, so that no thread gets a signal. */
	return mmap(self->mem, self->size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	       self->mem ? 0 : -errno;
}

static int wake_by_dontneed(struct _test_data_sleeper *self)
{
	return madvise(self->mem, self->size, MADV_DONTNEED) ? -errno : 0;
}

static int wake_by_eviction(struct _test_data_sleeper *self)
{
	size_t size = self->gpu.query.vram_size;
	char *mem = vsvm_alloc(size, HUGE);
	int ret;

	if (!mem)
		return -ENOMEM;
	ret = vsvm_prefetch(&self->gpu, mem, size, DRM_VSVM_PLACE_DEVICE);
	munmap(mem, size);
	return ret;
}

static int wake_by_unbind(struct _test_data_sleeper *self)
{
	return vsvm_bind(0, false);
}

FIXTURE_VARIANT_ADD(sleeper, read) { .wake = wake_by_read };
FIXTURE_VARIANT_ADD(sleeper, munmap) {
	.wake = wake_by_munmap,
	.discarded = true,
};

FIXTURE_VARIANT_ADD(sleeper, dontneed) {
	.wake = wake_by_dontneed,
	.discarded = true,
};

FIXTURE_VARIANT_ADD(sleeper, eviction) { .wake = wake_by_eviction };
FIXTURE_VARIANT_ADD(sleeper, unbind) { .wake = wake_by_unbind };

FIXTURE_SETUP(sleeper)
{
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	self->page = getpagesize();
	self->size = 16 * self->page;
	self->mem = vsvm_alloc(self->size, HUGE);
	ASSERT_NE(NULL, self->mem);
	vsvm_fill(self->mem, self->size, 1);
}

FIXTURE_TEARDOWN(sleeper)
{
	struct vsvm_gpu gpu;

	vsvm_gpu_close(&self->gpu);
	/* Nothing to do, unless it was unbound. */
	vsvm_bind(0, true);
	munmap(self->mem, self->size);
	ASSERT_EQ(0, vsvm_gpu_open(&gpu, 0));
	EXPECT_EQ(0, vsvm_wait_used_ms(gpu.fd, 0, 10000));
	vsvm_gpu_close(&gpu);
}

struct sleep {
	char *mem;
	atomic_bool asleep;
	double woke;
};

static void *sleep_in_fault(void *arg)
{
	struct sleep *s = arg;

	atomic_store(&s->asleep, true);
	vsvm_touch(s->mem);
	s->woke = vsvm_now_ms();
	return NULL;
}

TEST_F_TIMEOUT(sleeper, wakes, TIMEOUT)
{
	struct sleep sleep = { .mem = self->mem };
	uint32_t slice = self->gpu.query.max_timeslice_ms;
	pthread_t thread;
	double began, took;

	if (vsvm_coherent(&self->gpu))
		SKIP(return, "the CPU accesses device memory in place");

	ASSERT_EQ(0, prefetch_some(&self->gpu, self->mem, self->size, slice));
	began = vsvm_now_ms();
	ASSERT_EQ(0, pthread_create(&thread, NULL, sleep_in_fault, &sleep));
	usleep(500 * 1000);
	ASSERT_TRUE(atomic_load(&sleep.asleep));
	EXPECT_EQ(0, sleep.woke);
	EXPECT_EQ(0, variant->wake(self));
	took = vsvm_now_ms() - began;
	ASSERT_EQ(0, pthread_join(thread, NULL));
	/* Both the sleeper and the thread that takes the page away. */
	EXPECT_GT(slice - 3000, sleep.woke - began);
	EXPECT_GT(slice - 3000, took);
	EXPECT_EQ(-1, variant->discarded ?
			      vsvm_verify_value(self->mem, self->size, 0) :
			      vsvm_verify(self->mem, self->size, 1));
}

/*
 * Moving pages, too.
 */

/* Every page that moves has been brought back from the device before. */
TEST_F(mm, uffdio_move_of_device_memory)
{
	struct uffdio_move args = { .len = self->size };
	char *to = vsvm_alloc(self->size, HUGE);
	int uffd, tries, ret = -EAGAIN;

	ASSERT_NE(NULL, to);
	uffd = uffd_register(to, self->size, UFFDIO_REGISTER_MODE_MISSING, 0);
	ASSERT_LE(0, uffd);
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	args.src = (uintptr_t)self->mem;
	args.dst = (uintptr_t)to;
	for (tries = 0; ret == -EAGAIN && tries < 100; tries++) {
		ret = ioctl(uffd, UFFDIO_MOVE, &args) ? -errno : 0;
		if (ret != -EAGAIN || args.move <= 0)
			continue;
		args.src += args.move;
		args.dst += args.move;
		args.len -= args.move;
	}
	EXPECT_EQ(0, ret);
	close(uffd);
	if (!ret) {
		EXPECT_EQ(-1, vsvm_verify(to, self->size, 1));
		EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 0));
		EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, to, self->size, 2));
		EXPECT_EQ(-1, vsvm_verify_value(to, self->size, 2));
	} else {
		EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	}
	munmap(to, self->size);
}

static int move_to_node_0(void **pages, int *status)
{
	int nodes[NPAGES] = {};

	return syscall(SYS_move_pages, 0, NPAGES, pages, nodes, status,
		       MPOL_MF_MOVE) ? -errno : 0;
}

/* Device pages are moved and in RAM then, or reported as not there. */
TEST_F(mm, move_pages_of_device_memory)
{
	struct drm_vsvm_page where[NPAGES];
	int status[NPAGES], i, bad = 0;
	void *pages[NPAGES];

	for (i = 0; i < NPAGES; i++)
		pages[i] = self->mem + i * self->page;
	ASSERT_EQ(0, to_device(&self->gpu, self->mem, self->size));
	EXPECT_EQ(0, move_to_node_0(pages, status));
	ASSERT_EQ(0, vsvm_residency(&self->gpu, self->mem, self->size, where));
	for (i = 0; i < NPAGES; i++)
		bad += where[i].place == DRM_VSVM_PLACE_SYSTEM ?
			       status[i] != 0 : status[i] != -ENOENT;
	EXPECT_EQ(0, bad);

	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(0, move_to_node_0(pages, status));
	for (i = 0; i < NPAGES; i++)
		bad += status[i] != 0;
	EXPECT_EQ(0, bad);
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 2));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 2));
}

/* All of a huge page's memory is on the device. */
TEST_F(mm, collapse_of_device_memory)
{
	char *mem = vsvm_alloc(HUGE, HUGE);
	int tries, ret = EAGAIN;

	ASSERT_NE(NULL, mem);
	if (!vsvm_huge_is(HUGE))
		SKIP(return, "no huge pages of this size");
	ASSERT_EQ(0, vsvm_no_huge(mem, HUGE));
	vsvm_fill(mem, HUGE, 3);
	ASSERT_EQ(0, to_device(&self->gpu, mem, HUGE));
	ASSERT_EQ(0, madvise(mem, HUGE, MADV_HUGEPAGE));
	/* Nobody moves what the CPU accesses where it is. */
	if (vsvm_coherent(&self->gpu)) {
		EXPECT_EQ(-1, madvise(mem, HUGE, MADV_COLLAPSE));
		EXPECT_EQ(EINVAL, errno);
		ASSERT_EQ(0, vsvm_bring_back(&self->gpu, mem, HUGE));
	}
	for (tries = 0; ret == EAGAIN && tries < 50; tries++)
		ret = madvise(mem, HUGE, MADV_COLLAPSE) ? errno : 0;
	EXPECT_EQ(0, ret);
	EXPECT_EQ(-1, vsvm_verify(mem, HUGE, 3));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, mem, HUGE, 4));
	EXPECT_EQ(-1, vsvm_verify_value(mem, HUGE, 4));
	munmap(mem, HUGE);
}

static void *compact(void *arg)
{
	atomic_bool *stop = arg;

	while (!atomic_load(stop))
		vsvm_write_file("/proc/sys/vm/compact_memory", "1");
	return NULL;
}

/* Compaction moves neighbouring pages, and pages that come and go. */
TEST_F_TIMEOUT(mm, compaction_during_jobs, TIMEOUT)
{
	double end = vsvm_now_ms() + 2000;
	uint64_t round = 1, one = 1;
	atomic_bool stop = false;
	pthread_t thread;
	int ret = 0;

	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 1));
	ASSERT_EQ(0, pthread_create(&thread, NULL, compact, &stop));
	while (!ret && vsvm_now_ms() < end) {
		ret = vsvm_gpu_muladd(&self->gpu, self->mem, self->mem, &one,
				      self->size);
		round *= 2;
		if (!ret && vsvm_verify_value(self->mem, self->size, round) !=
			    -1)
			ret = -EBADMSG;
		if (!ret)
			ret = prefetch_some(&self->gpu, self->mem, self->size,
					    0);
		if (round > 1ULL << 60) {
			round = 1;
			ret = ret ? ret : vsvm_gpu_fill(&self->gpu, self->mem,
							self->size, 1);
		}
	}
	atomic_store(&stop, true);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, ret);
}

/* A pipe refers to the page itself, which stays where it is as long as it does. */
TEST_F(mm, pages_in_a_pipe_stay)
{
	struct iovec iov = { self->mem, 4 * self->page };
	struct drm_vsvm_prefetch args = {
		.vm_id = self->gpu.vm,
		.flags = DRM_VSVM_PREFETCH_PARTIAL,
		.start = (uintptr_t)self->mem,
		.size = self->size,
		.place = DRM_VSVM_PLACE_DEVICE,
	};
	char *copy = malloc(iov.iov_len);
	int fd[2];

	ASSERT_NE(NULL, copy);
	ASSERT_EQ(0, pipe(fd));
	ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_DEVICE));
	ASSERT_EQ((ssize_t)iov.iov_len, vmsplice(fd[1], &iov, 1, 0));
	EXPECT_EQ(0, vsvm_ioctl(self->gpu.fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	/* The pipe has pages of RAM, or, if the CPU reaches it, of the device. */
	EXPECT_EQ(!vsvm_coherent(&self->gpu), args.left >= 4);
	EXPECT_EQ(!vsvm_coherent(&self->gpu), args.left > 0);
	EXPECT_LE(4, vsvm_count(&self->gpu, self->mem, 4 * self->page,
				vsvm_accessed_place(&self->gpu)));
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 5));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 5));
	ASSERT_EQ((ssize_t)iov.iov_len, read(fd[0], copy, iov.iov_len));
	EXPECT_EQ(-1, vsvm_verify_value(copy, iov.iov_len, 5));
	free(copy);
	close(fd[0]);
	close(fd[1]);
	EXPECT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
				   DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 5));
}

TEST_HARNESS_MAIN
