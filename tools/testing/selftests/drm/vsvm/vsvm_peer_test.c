// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of memory that moves from device to device: straight there, or, without
 * the interconnect, by way of RAM.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
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

#include <linux/const.h>
#include <linux/userfaultfd.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#define TIMEOUT		180
#define NPAGES		64
#define ROUNDS		20
#define HUGE		(2UL << 20)

#define PM_SOFT_DIRTY	_BITULL(55)
#define PM_UFFD_WP	_BITULL(57)

/* Counters of a device's region */
struct figures {
	long long from_peers;
	long long to_peers;
	long long to_devmem;
	long long to_ram;
};

FIXTURE(peer)
{
	struct vsvm_gpu gpu[2];
	struct figures figures[2];
	size_t page;
	size_t size;
	char *mem;
	uint64_t sum;
};

FIXTURE_VARIANT(peer)
{
	bool direct;
};

FIXTURE_VARIANT_ADD(peer, direct) { .direct = true };
FIXTURE_VARIANT_ADD(peer, by_way_of_ram) { .direct = false };

static void read_figures(unsigned int device, struct figures *figures)
{
	figures->from_peers = vsvm_region_figure(device, "pages-from-peers");
	figures->to_peers = vsvm_region_figure(device, "pages-to-peers");
	figures->to_devmem = vsvm_region_figure(device, "pages-to-devmem");
	figures->to_ram = vsvm_region_figure(device, "pages-faulted") +
			  vsvm_region_figure(device, "pages-evicted");
}

FIXTURE_SETUP(peer)
{
	int i, ret;

	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu[0], 0));
	ret = vsvm_gpu_open(&self->gpu[1], 1);
	if (ret == -ENODEV)
		SKIP(return, "one device only");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, vsvm_set_peers(variant->direct));
	self->page = getpagesize();
	self->size = NPAGES * self->page;
	self->mem = vsvm_alloc(self->size, HUGE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, vsvm_no_huge(self->mem, self->size));
	vsvm_fill(self->mem, self->size, 1);
	self->sum = vsvm_checksum(self->mem, self->size);
	for (i = 0; i < 2; i++)
		read_figures(i, &self->figures[i]);
}

FIXTURE_TEARDOWN(peer)
{
	int i, ret;

	munmap(self->mem, self->size);
	for (i = 0; i < 2; i++) {
		ret = vsvm_wait_used_ms(self->gpu[i].fd,
					self->gpu[i].stats.vram_used, 10000);
		EXPECT_TRUE(!ret || ret == -ENODEV);
		vsvm_gpu_close(&self->gpu[i]);
	}
	vsvm_set_peers(true);
}

static int to_device(struct vsvm_gpu *gpu, void *mem, size_t size)
{
	return vsvm_prefetch(gpu, mem, size, DRM_VSVM_PLACE_DEVICE);
}

static long on_device(struct vsvm_gpu *gpu, void *mem, size_t size)
{
	return vsvm_count(gpu, mem, size, DRM_VSVM_PLACE_DEVICE);
}

/* As much as can move, and how much did. */
static int prefetch_some(struct vsvm_gpu *gpu, void *mem, size_t size,
			 struct drm_vsvm_prefetch *args)
{
	*args = (struct drm_vsvm_prefetch) {
		.vm_id = gpu->vm,
		.flags = DRM_VSVM_PREFETCH_PARTIAL,
		.start = (uintptr_t)mem,
		.size = size,
		.place = DRM_VSVM_PLACE_DEVICE,
	};

	return vsvm_ioctl(gpu->fd, DRM_IOCTL_VSVM_PREFETCH, args);
}

static int gpu_sum(struct vsvm_gpu *gpu, void *mem, size_t size, uint64_t sum)
{
	uint64_t got;
	int ret = vsvm_gpu_checksum(gpu, mem, size, &got);

	return ret ?: got == sum ? 0 : -EILSEQ;
}

/*
 * Since the start of the test, @n pages left device @from for the other one,
 * straight there if that is possible.
 */
static int moved_are(const struct figures before[2], int from, long long n,
		     bool direct)
{
	struct figures a, b;

	read_figures(from, &a);
	read_figures(!from, &b);
	if (a.to_peers - before[from].to_peers != (direct ? n : 0) ||
	    b.from_peers - before[!from].from_peers != (direct ? n : 0) ||
	    a.to_ram - before[from].to_ram != (direct ? 0 : n)) {
		fprintf(stderr, "# to peers %lld, from peers %lld, to RAM %lld\n",
			a.to_peers - before[from].to_peers,
			b.from_peers - before[!from].from_peers,
			a.to_ram - before[from].to_ram);
		return -EILSEQ;
	}
	return 0;
}

TEST_F(peer, prefetch)
{
	ASSERT_EQ(0, to_device(&self->gpu[0], self->mem, self->size));
	ASSERT_EQ(0, to_device(&self->gpu[1], self->mem, self->size));
	EXPECT_EQ(NPAGES, on_device(&self->gpu[1], self->mem, self->size));
	EXPECT_EQ(0, moved_are(self->figures, 0, NPAGES, variant->direct));
	EXPECT_EQ(0, gpu_sum(&self->gpu[1], self->mem, self->size, self->sum));
	EXPECT_EQ(NPAGES, on_device(&self->gpu[1], self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
}

/* There and back, written to by each device. */
TEST_F(peer, to_and_fro)
{
	int i;

	for (i = 1; i <= ROUNDS; i++) {
		ASSERT_EQ(0, to_device(&self->gpu[i & 1], self->mem,
				       self->size));
		ASSERT_EQ(NPAGES, on_device(&self->gpu[i & 1], self->mem,
					    self->size));
		ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu[i & 1], self->mem,
					   self->size, i));
	}
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, ROUNDS));
}

/* Untouched, in RAM, on the device and on the peer: page by page. */
TEST_F(peer, mixed)
{
	struct drm_vsvm_prefetch args;
	char *mem, *p;
	size_t i;

	mem = vsvm_alloc(self->size, HUGE);
	ASSERT_NE(NULL, mem);
	for (i = 0; i < NPAGES; i++) {
		p = mem + i * self->page;
		if (i % 4)
			memcpy(p, self->mem + i * self->page, self->page);
		if (i % 4 >= 2) {
			ASSERT_EQ(0, to_device(&self->gpu[i % 4 - 2], p,
					       self->page));
		}
	}
	ASSERT_EQ(0, prefetch_some(&self->gpu[1], mem, self->size, &args));
	EXPECT_EQ(NPAGES * 3 / 4, args.moved);
	EXPECT_EQ(NPAGES / 4, args.resident);
	EXPECT_EQ(0, args.left);
	EXPECT_EQ(0, moved_are(self->figures, 0, NPAGES / 4, variant->direct));
	EXPECT_EQ(NPAGES, on_device(&self->gpu[1], mem, self->size));
	for (i = 0; i < NPAGES; i++) {
		p = mem + i * self->page;
		if (i % 4) {
			EXPECT_EQ(0, memcmp(p, self->mem + i * self->page,
					    self->page));
		} else {
			EXPECT_EQ(-1, vsvm_verify_value(p, self->page, 0));
		}
	}
	munmap(mem, self->size);
}

/* Memory that is preferred on a device goes there from the peer. */
TEST_F(peer, fault_with_advice)
{
	struct figures before[2];
	int i, d;

	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, vsvm_advise(&self->gpu[i], self->mem, self->size,
					 DRM_VSVM_ADVICE_DEVICE));
	ASSERT_EQ(0, gpu_sum(&self->gpu[0], self->mem, self->size, self->sum));
	for (i = 1; i <= ROUNDS; i++) {
		d = i & 1;
		read_figures(0, &before[0]);
		read_figures(1, &before[1]);
		ASSERT_EQ(0, gpu_sum(&self->gpu[d], self->mem, self->size,
				     self->sum));
		EXPECT_EQ(NPAGES, on_device(&self->gpu[d], self->mem,
					    self->size));
		EXPECT_EQ(0, moved_are(before, !d, NPAGES, variant->direct));
	}
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
}

/* Without advice, it goes there only if its neighbours are there already. */
TEST_F(peer, fault_of_several)
{
	size_t i;

	for (i = 0; i < NPAGES; i++) {
		ASSERT_EQ(0, to_device(&self->gpu[i & 1],
				       self->mem + i * self->page, self->page));
	}
	ASSERT_EQ(0, gpu_sum(&self->gpu[1], self->mem, self->size, self->sum));
	EXPECT_EQ(NPAGES, on_device(&self->gpu[1], self->mem, self->size));
	/* By way of RAM, more than once maybe. */
	EXPECT_EQ(0, variant->direct ? moved_are(self->figures, 0, NPAGES / 2,
						 true) : 0);
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
}

/* Shared since fork(): both processes have it on the new device. */
TEST_F(peer, fork)
{
	int go[2], status;
	char byte = 0;
	pid_t pid;

	ASSERT_EQ(0, to_device(&self->gpu[0], self->mem, self->size));
	ASSERT_EQ(0, pipe(go));
	pid = fork();
	if (!pid) {
		if (read(go[0], &byte, 1) != 1)
			_exit(2);
		status = vsvm_verify(self->mem, self->size, 1) != -1;
		memset(self->mem, 0, self->size);
		_exit(status);
	}
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, to_device(&self->gpu[1], self->mem, self->size));
	EXPECT_EQ(NPAGES, on_device(&self->gpu[1], self->mem, self->size));
	EXPECT_EQ(0, moved_are(self->figures, 0, NPAGES, variant->direct));
	ASSERT_EQ(1, write(go[1], &byte, 1));
	EXPECT_EQ(0, vsvm_wait_child(pid));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	close(go[0]);
	close(go[1]);
}

/* The record of writes goes with the page. */
TEST_F(peer, soft_dirty)
{
	size_t half = self->size / 2;

	if (!vsvm_has_soft_dirty())
		SKIP(return, "no soft-dirty bits");
	ASSERT_EQ(0, to_device(&self->gpu[0], self->mem, self->size));
	ASSERT_EQ(0, vsvm_write_file("/proc/self/clear_refs", "4"));
	ASSERT_EQ(0, to_device(&self->gpu[1], self->mem, self->size));
	EXPECT_EQ(0, vsvm_count_bits(self->mem, NPAGES, PM_SOFT_DIRTY));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu[1], self->mem, half, 2));
	EXPECT_EQ(NPAGES / 2, vsvm_count_bits(self->mem, NPAGES, PM_SOFT_DIRTY));
	ASSERT_EQ(0, to_device(&self->gpu[0], self->mem, self->size));
	EXPECT_EQ(NPAGES / 2, vsvm_count_bits(self->mem, NPAGES, PM_SOFT_DIRTY));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, half, 2));
	EXPECT_EQ(NPAGES / 2, vsvm_count_bits(self->mem, NPAGES, PM_SOFT_DIRTY));
}

/* So does the write protection of userfaultfd. */
TEST_F(peer, uffd_wp)
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
	int fd;

	fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fd < 0)
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
	if (ioctl(fd, UFFDIO_REGISTER, &reg))
		SKIP(return, "no write protection");
	ASSERT_EQ(0, to_device(&self->gpu[0], self->mem, self->size));
	ASSERT_EQ(0, ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
	ASSERT_EQ(NPAGES / 2, vsvm_count_bits(self->mem, NPAGES, PM_UFFD_WP));
	ASSERT_EQ(0, to_device(&self->gpu[1], self->mem, self->size));
	EXPECT_EQ(NPAGES / 2, vsvm_count_bits(self->mem, NPAGES, PM_UFFD_WP));
	wp.mode = 0;
	ASSERT_EQ(0, ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
	EXPECT_EQ(0, vsvm_count_bits(self->mem, NPAGES, PM_UFFD_WP));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	close(fd);
}

/*
 * What was a huge page is one again after both devices had it, unless their
 * memory is coherent, to which it went in base pages.
 */
TEST_F(peer, huge_page)
{
	char *mem = vsvm_alloc(HUGE, HUGE);

	ASSERT_NE(NULL, mem);
	if (madvise(mem, HUGE, MADV_HUGEPAGE))
		SKIP(return, "the kernel has no huge pages");
	vsvm_fill(mem, HUGE, 2);
	if (vsvm_mapped_huge(mem, HUGE) != HUGE)
		SKIP(return, "no huge page");
	ASSERT_EQ(0, to_device(&self->gpu[0], mem, HUGE));
	ASSERT_EQ(0, to_device(&self->gpu[1], mem, HUGE));
	EXPECT_EQ((long)(HUGE / self->page),
		  on_device(&self->gpu[1], mem, HUGE));
	EXPECT_EQ(-1, vsvm_verify(mem, HUGE, 2));
	ASSERT_EQ(0, vsvm_bring_back(&self->gpu[1], mem, HUGE));
	EXPECT_EQ(vsvm_coherent(&self->gpu[1]) ? 0 : HUGE,
		  vsvm_mapped_huge(mem, HUGE));
	EXPECT_EQ(-1, vsvm_verify(mem, HUGE, 2));
	munmap(mem, HUGE);
}

#define CGROUP		"/sys/fs/cgroup/vsvm_peer_test"

/* In a child: the memory, charged to its group, moves again and again. */
static int move_in_cgroup(void)
{
	struct vsvm_gpu gpu[2];
	long before, after = 0;
	size_t size = HUGE;
	char *mem;
	int i;

	if (vsvm_write_file(CGROUP "/cgroup.procs", "0"))
		return 1;
	mem = vsvm_alloc(size, HUGE);
	if (!mem || vsvm_no_huge(mem, size) ||
	    vsvm_gpu_open(&gpu[0], 0) || vsvm_gpu_open(&gpu[1], 1))
		return 2;
	vsvm_fill(mem, size, 3);
	/* The kernel adds up the figures of all CPUs now and then. */
	sleep(3);
	before = vsvm_file_figure(CGROUP "/memory.stat", "anon");
	for (i = 0; i < ROUNDS; i++)
		if (to_device(&gpu[i & 1], mem, size))
			return 3;
	for (i = 0; i < 60; i++) {
		after = vsvm_file_figure(CGROUP "/memory.stat", "anon");
		if (labs(after - before) < 32 * getpagesize())
			break;
		usleep(100000);
	}
	printf("# %ld bytes charged before, %ld after\n", before, after);
	if (before < (long)size)
		return 4;
	if (vsvm_verify(mem, size, 3) != -1)
		return 5;
	return labs(after - before) < 32 * getpagesize() ? 0 : 6;
}

/* The charge goes with the page, and goes away with it. */
TEST_F(peer, memcg)
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

/* A device that is full makes room, and does not take more than it has. */
TEST_F(peer, destination_full)
{
	size_t size = self->gpu[1].query.vram_size;
	char *filler;

	filler = vsvm_alloc(size, HUGE);
	ASSERT_NE(NULL, filler);
	memset(filler, 1, size);
	ASSERT_EQ(0, to_device(&self->gpu[0], self->mem, self->size));
	ASSERT_EQ(0, to_device(&self->gpu[1], filler, size));
	ASSERT_EQ(0, to_device(&self->gpu[1], self->mem, self->size));
	EXPECT_EQ(NPAGES, on_device(&self->gpu[1], self->mem, self->size));
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	EXPECT_EQ(-1, vsvm_verify_value(filler, size, 0x0101010101010101));
	munmap(filler, size);
}

struct puller {
	struct vsvm_gpu *gpu;
	char *mem;
	size_t size;
	atomic_bool *stop;
	pthread_t thread;
	int ret;
};

static void *pull(void *arg)
{
	struct drm_vsvm_prefetch args;
	struct puller *p = arg;
	int ret;

	while (!atomic_load(p->stop)) {
		ret = prefetch_some(p->gpu, p->mem, p->size, &args);
		if (ret && ret != -ENODEV && ret != -EBUSY) {
			p->ret = ret;
			break;
		}
		if (ret == -ENODEV)
			usleep(1000);
	}
	return NULL;
}

/* Both devices pull at the same memory, CPUs read it, and devices go away. */
TEST_F_TIMEOUT(peer, unplug, TIMEOUT)
{
	struct puller puller[2];
	atomic_bool stop = false;
	int i, round;

	for (i = 0; i < 2; i++) {
		puller[i] = (struct puller) {
			.gpu = &self->gpu[i],
			.mem = self->mem,
			.size = self->size,
			.stop = &stop,
		};
		ASSERT_EQ(0, pthread_create(&puller[i].thread, NULL, pull,
					    &puller[i]));
	}
	for (round = 0; round < 2; round++) {
		for (i = 0; i < 50; i++)
			vsvm_touch(self->mem + i % NPAGES * self->page);
		EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
		ASSERT_EQ(0, vsvm_bind(round, false));
		EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
		ASSERT_EQ(0, vsvm_bind(round, true));
	}
	atomic_store(&stop, true);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, pthread_join(puller[i].thread, NULL));
		EXPECT_EQ(0, puller[i].ret);
	}
	EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
}

TEST_HARNESS_MAIN
