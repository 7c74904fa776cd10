// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of the ioctls of vsvm, with memory of a real process.  Where pages are
 * is also asked from /proc/self/pagemap, which knows nothing of vsvm.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <drm/drm.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#define TIMEOUT		180
#define SIZE		(1024 * 1024)

FIXTURE(svm)
{
	int fd;
	uint32_t vm;
	struct drm_vsvm_query query;
	size_t page_size;
	char *mem;
	size_t size;
	struct drm_vsvm_page *pages;
	uint8_t *pagemap;
};

/* Memory in one piece for the device: one allocation, if it moves at once. */
static char *map_within_chunk(size_t size, size_t chunk)
{
	char *mem, *start;

	mem = mmap(NULL, size + chunk, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return NULL;

	start = (char *)(((uintptr_t)mem + chunk - 1) / chunk * chunk);
	if (start > mem)
		munmap(mem, start - mem);
	munmap(start + size, mem + chunk - start);
	return start;
}

FIXTURE_SETUP(svm)
{
	self->fd = vsvm_open(0);
	if (self->fd < 0)
		SKIP(return, "no vsvm device");
	ASSERT_EQ(0, vsvm_query(self->fd, &self->query));
	ASSERT_EQ(0, vsvm_vm_create(self->fd, &self->vm));

	self->page_size = getpagesize();
	self->size = SIZE;
	self->mem = map_within_chunk(self->size, self->query.chunk_size);
	ASSERT_NE(NULL, self->mem);
	self->pages = calloc(self->size / self->page_size, sizeof(*self->pages));
	self->pagemap = calloc(self->size / self->page_size, 1);
	ASSERT_NE(NULL, self->pages);
	ASSERT_NE(NULL, self->pagemap);
}

FIXTURE_TEARDOWN(svm)
{
	if (self->fd < 0)
		return;
	munmap(self->mem, self->size);
	free(self->pages);
	free(self->pagemap);
	close(self->fd);
}

static struct drm_vsvm_prefetch prefetch_args(uint32_t vm, void *addr,
					      size_t size, uint32_t place)
{
	return (struct drm_vsvm_prefetch) {
		.vm_id = vm,
		.start = (uintptr_t)addr,
		.size = size,
		.place = place,
	};
}

static int prefetch(struct _test_data_svm *self, void *addr, size_t size,
		    uint32_t place)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->vm, addr, size,
						      place);

	return vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &args);
}

static int to_device(struct _test_data_svm *self)
{
	return prefetch(self, self->mem, self->size, DRM_VSVM_PLACE_DEVICE);
}

/*
 * How many pages of the range are in @place; -1 if the two witnesses differ,
 * -errno if one of them does not answer.
 */
static long count_pages(struct _test_data_svm *self, void *addr, size_t size,
			uint8_t place)
{
	size_t i, n = size / self->page_size;
	long count = 0;
	bool on_device, in_ram, present;
	int ret;

	ret = vsvm_residency(self->fd, self->vm, addr, size, self->pages);
	if (!ret)
		ret = vsvm_pagemap(addr, n, self->pagemap);
	if (ret)
		return ret;

	for (i = 0; i < n; i++) {
		count += self->pages[i].place == place;
		on_device = self->pages[i].place == DRM_VSVM_PLACE_DEVICE ||
			    self->pages[i].place == DRM_VSVM_PLACE_PEER;
		if (on_device && self->pagemap[i] != VSVM_PAGEMAP_SWAPPED)
			return -1;
		in_ram = self->pages[i].place == DRM_VSVM_PLACE_SYSTEM;
		present = self->pagemap[i] == VSVM_PAGEMAP_PRESENT;
		if (in_ram != present)
			return -1;
	}
	return count;
}

static long count_all(struct _test_data_svm *self, uint8_t place)
{
	return count_pages(self, self->mem, self->size, place);
}

/* The driver frees memory a little later than the last page goes. */
static int wait_used(int fd, uint64_t used)
{
	struct drm_vsvm_query query;
	int i, ret = 0;

	for (i = 0; i < 2000 && !ret; i++) {
		ret = vsvm_query(fd, &query);
		if (!ret && query.vram_used == used)
			return 0;
		usleep(1000);
	}
	return ret ? ret : -ETIME;
}

#define NPAGES	((long)(self->size / self->page_size))

TEST_F(svm, query)
{
	struct drm_vsvm_query *q = &self->query;

	EXPECT_EQ(0, q->device);
	EXPECT_NE(0, q->vram_size);
	EXPECT_LE(q->vram_used, q->vram_size);
	EXPECT_EQ(self->page_size, q->page_size);
	EXPECT_LE(q->chunk_size, q->vram_size);
	EXPECT_EQ(0, q->chunk_size % q->page_size);
	EXPECT_NE(0, q->max_vms);
	EXPECT_NE(0, q->max_timeslice_ms);

	q->flags = 1;
	EXPECT_EQ(-EINVAL, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_QUERY, q));
	EXPECT_EQ(-EFAULT, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_QUERY,
				      (void *)self->page_size));
}

TEST_F(svm, vm_handles)
{
	struct drm_vsvm_vm_create create = { .flags = 1 };
	struct drm_vsvm_vm_destroy destroy = { .vm_id = self->vm, .pad = 1 };
	uint32_t last = self->vm, vm, i;

	EXPECT_EQ(-EINVAL, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_VM_CREATE,
				      &create));
	EXPECT_EQ(-EINVAL, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_VM_DESTROY,
				      &destroy));
	EXPECT_EQ(-ENOENT, vsvm_vm_destroy(self->fd, 0));
	EXPECT_EQ(-ENOENT, vsvm_vm_destroy(self->fd, UINT_MAX));

	for (i = 1; i < self->query.max_vms; i++) {
		ASSERT_EQ(0, vsvm_vm_create(self->fd, &vm));
		EXPECT_NE(0, vm);
		EXPECT_NE(last, vm);
		last = vm;
	}
	EXPECT_EQ(-ENOSPC, vsvm_vm_create(self->fd, &vm));
	EXPECT_EQ(0, vsvm_vm_destroy(self->fd, last));
	EXPECT_EQ(-ENOENT, vsvm_vm_destroy(self->fd, last));
	EXPECT_EQ(0, vsvm_vm_create(self->fd, &vm));
}

TEST_F(svm, prefetch_invalid)
{
	struct drm_vsvm_prefetch good = prefetch_args(self->vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);
	uint64_t page = self->page_size;
	struct drm_vsvm_prefetch bad;

#define EXPECT_BAD(err, field, value) do {				\
	bad = good;							\
	bad.field = (value);						\
	EXPECT_EQ(err, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &bad)); \
} while (0)
	EXPECT_BAD(-ENOENT, vm_id, 0);
	EXPECT_BAD(-ENOENT, vm_id, self->vm + 1);
	EXPECT_BAD(-EINVAL, flags, 1u << 1);
	EXPECT_BAD(-EINVAL, flags, 1u << 31);
	EXPECT_BAD(-EINVAL, start, good.start + 1);
	EXPECT_BAD(-EINVAL, start, good.start + page / 2);
	EXPECT_BAD(-EINVAL, start, -page);
	EXPECT_BAD(-EINVAL, start, 1ULL << 63);
	EXPECT_BAD(-EINVAL, size, 0);
	EXPECT_BAD(-EINVAL, size, page + 1);
	EXPECT_BAD(-EINVAL, size, -page);
	EXPECT_BAD(-EINVAL, size, -good.start);
	EXPECT_BAD(-EINVAL, place, DRM_VSVM_PLACE_NONE);
	EXPECT_BAD(-EINVAL, place, DRM_VSVM_PLACE_PEER);
	EXPECT_BAD(-EINVAL, place, DRM_VSVM_PLACE_UNMAPPED);
	EXPECT_BAD(-EINVAL, place, UINT_MAX);
	EXPECT_BAD(-EINVAL, timeslice_ms, self->query.max_timeslice_ms + 1);
	EXPECT_BAD(-EINVAL, fault_window, 1);
	EXPECT_BAD(-EINVAL, fault_window, self->query.chunk_size + page);

	good.place = DRM_VSVM_PLACE_SYSTEM;
	EXPECT_BAD(-EINVAL, timeslice_ms, 1);
	EXPECT_BAD(-EINVAL, fault_window, page);
#undef EXPECT_BAD
	EXPECT_EQ(-EFAULT, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH,
				      (void *)page));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_NONE));
}

TEST_F(svm, residency_invalid)
{
	struct drm_vsvm_residency good = {
		.vm_id = self->vm,
		.start = (uintptr_t)self->mem,
		.size = self->size,
		.pages = (uintptr_t)self->pages,
	};
	uint64_t page = self->page_size;
	struct drm_vsvm_residency bad;

#define EXPECT_BAD(err, field, value) do {				\
	bad = good;							\
	bad.field = (value);						\
	EXPECT_EQ(err, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_RESIDENCY, &bad)); \
} while (0)
	EXPECT_BAD(-ENOENT, vm_id, 0);
	EXPECT_BAD(-EINVAL, flags, 1);
	EXPECT_BAD(-EINVAL, start, good.start + 1);
	EXPECT_BAD(-EINVAL, start, -page);
	EXPECT_BAD(-EINVAL, size, 0);
	EXPECT_BAD(-EINVAL, size, page - 1);
	EXPECT_BAD(-EINVAL, size, -good.start);
	EXPECT_BAD(-EFAULT, pages, 0);
	EXPECT_BAD(-EFAULT, pages, -page);
#undef EXPECT_BAD
}

TEST_F(svm, other_process)
{
	uint32_t vm;
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (to_device(self) != -EPERM ||
		    count_all(self, DRM_VSVM_PLACE_NONE) != -EPERM)
			_exit(1);
		if (vsvm_vm_create(self->fd, &vm))
			_exit(2);
		self->vm = vm;
		if (to_device(self))
			_exit(3);
		_exit(count_all(self, DRM_VSVM_PLACE_DEVICE) != NPAGES);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_NONE));
	EXPECT_EQ(0, wait_used(self->fd, self->query.vram_used));
}

TEST_F_TIMEOUT(svm, round_trip, TIMEOUT)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);
	uint64_t sum;

	vsvm_fill(self->mem, self->size, 1);
	sum = vsvm_checksum(self->mem, self->size);
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_SYSTEM));

	ASSERT_EQ(0, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(NPAGES, args.moved);
	EXPECT_EQ(0, args.resident);
	EXPECT_EQ(0, args.left);
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(DRM_VSVM_PAGE_WRITE, self->pages[0].flags);

	ASSERT_EQ(0, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(0, args.moved);
	EXPECT_EQ(NPAGES, args.resident);

	args.place = DRM_VSVM_PLACE_SYSTEM;
	ASSERT_EQ(0, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(NPAGES, args.moved);
	EXPECT_EQ(0, args.left);
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));

	ASSERT_EQ(0, to_device(self));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
	EXPECT_EQ(0, wait_used(self->fd, self->query.vram_used));
}

/* What was never written is zero, whatever the device memory held before. */
TEST_F(svm, untouched_is_zero)
{
	size_t i, nonzero = 0;

	vsvm_fill(self->mem, self->size, 2);
	ASSERT_EQ(0, to_device(self));
	ASSERT_EQ(0, madvise(self->mem, self->size, MADV_DONTNEED));
	EXPECT_EQ(0, wait_used(self->fd, self->query.vram_used));

	ASSERT_EQ(0, to_device(self));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	for (i = 0; i < self->size; i++)
		nonzero += self->mem[i] != 0;
	EXPECT_EQ(0, nonzero);
}

TEST_F(svm, fault_window)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);

	args.fault_window = self->page_size;
	vsvm_fill(self->mem, self->size, 3);
	ASSERT_EQ(0, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	vsvm_touch(self->mem + 5 * self->page_size);
	EXPECT_EQ(1, count_all(self, DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(DRM_VSVM_PLACE_SYSTEM, self->pages[5].place);

	/* Only what is missing moves. */
	ASSERT_EQ(0, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(1, args.moved);
	EXPECT_EQ(NPAGES - 1, args.resident);
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
}

TEST_F(svm, timeslice)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);
	double began;

	vsvm_fill(self->mem, self->size, 4);
	args.timeslice_ms = 300;
	began = vsvm_now_ms();
	ASSERT_EQ(0, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	vsvm_touch(self->mem);
	EXPECT_LE(299, vsvm_now_ms() - began);
}

TEST_F(svm, hole_and_file)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);
	size_t page = self->page_size;
	int fd;

	vsvm_fill(self->mem, self->size, 5);
	ASSERT_EQ(0, munmap(self->mem + page, page));
	EXPECT_EQ(-EFAULT, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(1, args.moved);
	EXPECT_EQ(1, count_all(self, DRM_VSVM_PLACE_UNMAPPED));
	EXPECT_EQ(DRM_VSVM_PLACE_DEVICE, self->pages[0].place);
	EXPECT_EQ(DRM_VSVM_PLACE_UNMAPPED, self->pages[1].place);

	fd = memfd_create("vsvm", MFD_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, page));
	ASSERT_EQ(self->mem + 2 * page,
		  mmap(self->mem + 2 * page, page, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_FIXED, fd, 0));
	close(fd);
	args.start += 2 * page;
	args.size = page;
	EXPECT_EQ(-EOPNOTSUPP, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH,
					  &args));
	EXPECT_EQ(1, args.left);

	args.start = (uintptr_t)self->mem;
	args.size = self->size;
	args.flags = DRM_VSVM_PREFETCH_PARTIAL;
	EXPECT_EQ(0, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(1, args.resident);
	EXPECT_EQ(1, args.left);
	EXPECT_EQ(NPAGES - 3, args.moved);
}

TEST_F(svm, pinned_page)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);
	struct iovec iov;
	int pipes[2];

	vsvm_fill(self->mem, self->size, 6);
	iov.iov_base = self->mem + 7 * self->page_size;
	iov.iov_len = self->page_size;
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ((ssize_t)self->page_size, vmsplice(pipes[1], &iov, 1, 0));

	EXPECT_EQ(-EBUSY, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(1, args.left);
	args.flags = DRM_VSVM_PREFETCH_PARTIAL;
	EXPECT_EQ(0, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(1, args.left);
	EXPECT_EQ(1, count_all(self, DRM_VSVM_PLACE_SYSTEM));

	close(pipes[0]);
	close(pipes[1]);
	args.flags = 0;
	EXPECT_EQ(0, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
}

TEST_F_TIMEOUT(svm, fork_cow, TIMEOUT)
{
	uint64_t sum, child_sum;
	int status;
	pid_t pid;

	vsvm_fill(self->mem, self->size, 8);
	child_sum = vsvm_checksum(self->mem, self->size);
	vsvm_fill(self->mem, self->size, 7);
	sum = vsvm_checksum(self->mem, self->size);
	ASSERT_EQ(0, to_device(self));

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (vsvm_checksum(self->mem, self->size) != sum)
			_exit(1);
		vsvm_fill(self->mem, self->size, 8);
		if (vsvm_vm_create(self->fd, &self->vm) || to_device(self))
			_exit(2);
		if (count_all(self, DRM_VSVM_PLACE_DEVICE) != NPAGES)
			_exit(3);
		_exit(vsvm_checksum(self->mem, self->size) != child_sum);
	}
	/* While the child does the same. */
	self->mem[0] ^= 1;
	EXPECT_EQ(0, prefetch(self, self->mem, self->page_size,
			      DRM_VSVM_PLACE_SYSTEM));
	self->mem[0] ^= 1;
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
}

TEST_F(svm, partial_munmap)
{
	size_t half = self->size / 2;
	uint64_t sum;

	vsvm_fill(self->mem, self->size, 9);
	sum = vsvm_checksum(self->mem + half, half);
	ASSERT_EQ(0, to_device(self));
	ASSERT_EQ(0, munmap(self->mem, half));
	EXPECT_EQ(NPAGES / 2, count_all(self, DRM_VSVM_PLACE_UNMAPPED));
	EXPECT_EQ(NPAGES / 2, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ((long long)half, vsvm_fdinfo(self->fd, "drm-resident-vram"));
	EXPECT_EQ(sum, vsvm_checksum(self->mem + half, half));
	EXPECT_EQ(0, wait_used(self->fd, self->query.vram_used));
}

TEST_F(svm, mremap)
{
	uint64_t sum;
	char *moved;

	vsvm_fill(self->mem, self->size, 10);
	sum = vsvm_checksum(self->mem, self->size);
	ASSERT_EQ(0, to_device(self));

	moved = mmap(NULL, self->size + self->page_size, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, moved);
	moved += self->page_size;
	ASSERT_EQ(moved, mremap(self->mem, self->size, self->size,
				MREMAP_MAYMOVE | MREMAP_FIXED, moved));
	self->mem = moved;
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_SYSTEM));
}

TEST_F_TIMEOUT(svm, eviction, TIMEOUT)
{
	struct drm_vsvm_query query;
	size_t size = self->query.vram_size * 3 / 2;
	uint64_t sum;
	char *mem;

	vsvm_fill(self->mem, self->size, 11);
	ASSERT_EQ(0, to_device(self));

	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	vsvm_fill(mem, size, 12);
	sum = vsvm_checksum(mem, size);

	EXPECT_EQ(0, prefetch(self, mem, size, DRM_VSVM_PLACE_DEVICE));
	ASSERT_EQ(0, vsvm_query(self->fd, &query));
	EXPECT_LE(query.vram_used, query.vram_size);
	EXPECT_GT(query.vram_used, query.vram_size / 2);
	/* The oldest goes first. */
	EXPECT_EQ(0, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(0, count_pages(self, mem, self->size, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(NPAGES, count_pages(self, mem + size - self->size, self->size,
				      DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(sum, vsvm_checksum(mem, size));
	munmap(mem, size);
	EXPECT_EQ(0, wait_used(self->fd, 0));
}

static int evict_in_child(struct _test_data_svm *self, uint64_t seed)
{
	size_t size = self->query.vram_size;
	uint64_t sum;
	char *mem;
	int i;

	if (vsvm_vm_create(self->fd, &self->vm))
		return 1;
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		return 2;
	vsvm_fill(mem, size, seed);
	sum = vsvm_checksum(mem, size);
	for (i = 0; i < 3; i++)
		if (prefetch(self, mem, size, DRM_VSVM_PLACE_DEVICE))
			return 3;
	return vsvm_checksum(mem, size) != sum;
}

/* Two processes that each want all of the memory. */
TEST_F_TIMEOUT(svm, eviction_race, TIMEOUT)
{
	int status, i;
	pid_t pid[2];

	for (i = 0; i < 2; i++) {
		pid[i] = fork();
		ASSERT_LE(0, pid[i]);
		if (!pid[i])
			_exit(evict_in_child(self, 20 + i));
	}
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(pid[i], waitpid(pid[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	EXPECT_EQ(0, wait_used(self->fd, 0));
}

/* Memory belongs to the process, not to the file. */
TEST_F(svm, close_keeps_memory)
{
	uint64_t sum;

	vsvm_fill(self->mem, self->size, 13);
	sum = vsvm_checksum(self->mem, self->size);
	ASSERT_EQ(0, to_device(self));
	close(self->fd);

	self->fd = vsvm_open(0);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, vsvm_vm_create(self->fd, &self->vm));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(0, vsvm_fdinfo(self->fd, "drm-total-vram"));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
	EXPECT_EQ(0, wait_used(self->fd, self->query.vram_used));
}

TEST_F(svm, fdinfo)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);
	long long size = self->size;

	EXPECT_EQ(0, vsvm_fdinfo(self->fd, "drm-total-vram"));
	EXPECT_EQ(0, vsvm_fdinfo(self->fd, "drm-resident-vram"));

	args.fault_window = self->page_size;
	ASSERT_EQ(0, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(size, vsvm_fdinfo(self->fd, "drm-total-vram"));
	EXPECT_EQ(size, vsvm_fdinfo(self->fd, "drm-resident-vram"));

	vsvm_touch(self->mem);
	EXPECT_EQ(size, vsvm_fdinfo(self->fd, "drm-total-vram"));
	EXPECT_EQ(size - (long long)self->page_size,
		  vsvm_fdinfo(self->fd, "drm-resident-vram"));

	munmap(self->mem, self->size);
	EXPECT_EQ(0, wait_used(self->fd, self->query.vram_used));
	EXPECT_EQ(0, vsvm_fdinfo(self->fd, "drm-total-vram"));
}

/* A figure of the region of the first device, or -1 without debugfs. */
static long long region_figure(const char *name)
{
	FILE *file = fopen("/sys/kernel/debug/dri/vsvm.0/pagemap-vram", "r");
	long long value = -1;
	char line[64];

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		if (!strncmp(line, name, strlen(name)))
			value = atoll(line + strlen(name));
	}
	fclose(file);
	return value;
}

TEST_F(svm, debugfs)
{
	struct drm_vsvm_prefetch args = prefetch_args(self->vm, self->mem,
						      self->size,
						      DRM_VSVM_PLACE_DEVICE);
	long long resident = region_figure("resident: ");
	long long faulted = region_figure("pages-faulted: ");
	long long npages = self->size / self->page_size;

	if (resident < 0)
		SKIP(return, "needs debugfs, and the right to read it");

	args.fault_window = self->page_size;
	ASSERT_EQ(0, vsvm_ioctl(self->fd, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(resident + npages, region_figure("resident: "));
	vsvm_touch(self->mem);
	EXPECT_EQ(resident + npages - 1, region_figure("resident: "));
	EXPECT_EQ(faulted + 1, region_figure("pages-faulted: "));
}

TEST_F_TIMEOUT(svm, unbind, TIMEOUT)
{
	struct drm_vsvm_query query;
	uint64_t sum;
	uint32_t vm;
	int fd;

	vsvm_fill(self->mem, self->size, 14);
	sum = vsvm_checksum(self->mem, self->size);
	ASSERT_EQ(0, to_device(self));
	if (vsvm_bind(0, false) == -EACCES)
		SKIP(return, "not allowed to unbind");

	EXPECT_EQ(-ENODEV, vsvm_query(self->fd, &query));
	EXPECT_EQ(-ENODEV, to_device(self));
	EXPECT_EQ(-ENODEV, vsvm_vm_create(self->fd, &vm));
	EXPECT_EQ(-ENODEV, vsvm_vm_destroy(self->fd, self->vm));
	EXPECT_EQ(-ENODEV, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(-1, vsvm_fdinfo(self->fd, "drm-total-vram"));
	EXPECT_EQ(-ENODEV, vsvm_open(0));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));

	/* The old file stays open, and dead. */
	ASSERT_EQ(0, vsvm_bind(0, true));
	EXPECT_EQ(-ENODEV, vsvm_query(self->fd, &query));
	fd = vsvm_open(0);
	ASSERT_LE(0, fd);
	close(self->fd);
	self->fd = fd;
	ASSERT_EQ(0, vsvm_vm_create(self->fd, &self->vm));
	ASSERT_EQ(0, vsvm_query(self->fd, &query));
	EXPECT_EQ(0, query.vram_used);
	ASSERT_EQ(0, to_device(self));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
}

TEST_F(svm, peer)
{
	struct drm_vsvm_prefetch args;
	int first = self->fd, second;
	uint64_t sum;
	uint32_t vm;

	second = vsvm_open(1);
	if (second < 0)
		SKIP(return, "one device only");
	ASSERT_EQ(0, vsvm_vm_create(second, &vm));

	vsvm_fill(self->mem, self->size, 15);
	sum = vsvm_checksum(self->mem, self->size);
	ASSERT_EQ(0, to_device(self));

	/* The same memory, seen and handled by the second device. */
	self->fd = second;
	self->vm = vm;
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_PEER));
	EXPECT_EQ(0, self->pages[0].device);
	EXPECT_EQ(-EBUSY, to_device(self));
	args = prefetch_args(vm, self->mem, self->size, DRM_VSVM_PLACE_DEVICE);
	args.flags = DRM_VSVM_PREFETCH_PARTIAL;
	EXPECT_EQ(0, vsvm_ioctl(second, DRM_IOCTL_VSVM_PREFETCH, &args));
	EXPECT_EQ(NPAGES, args.left);

	EXPECT_EQ(0, prefetch(self, self->mem, self->size,
			      DRM_VSVM_PLACE_SYSTEM));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_SYSTEM));
	ASSERT_EQ(0, to_device(self));
	EXPECT_EQ(NPAGES, count_all(self, DRM_VSVM_PLACE_DEVICE));
	EXPECT_EQ(1, self->pages[0].device);
	EXPECT_EQ(sum, vsvm_checksum(self->mem, self->size));
	close(first);
}

TEST_HARNESS_MAIN
