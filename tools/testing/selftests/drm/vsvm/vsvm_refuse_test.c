// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests with memory that a device gets only with consent of the process, or not
 * at all, and of the memory that is charged to the process.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <linux/userfaultfd.h>

#include "../../kselftest_harness.h"
#include "vsvm_util.h"

#define TIMEOUT		180

FIXTURE(gpu)
{
	struct vsvm_gpu gpu;
	size_t page;
};

FIXTURE_SETUP(gpu)
{
	self->page = getpagesize();
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
}

FIXTURE_TEARDOWN(gpu)
{
	vsvm_gpu_close(&self->gpu);
}

/*
 * Secret memory: not even the kernel has it mapped.
 */

/* Maps it, and closes the file. */
static char *map_secret(int fd, void *addr, size_t size)
{
	void *mem = MAP_FAILED;

	if (!ftruncate(fd, size))
		mem = mmap(addr, size, PROT_READ | PROT_WRITE,
			   MAP_SHARED | (addr ? MAP_FIXED : 0), fd, 0);
	close(fd);
	return mem == MAP_FAILED ? NULL : mem;
}

TEST_F_TIMEOUT(gpu, memfd_secret, TIMEOUT)
{
	size_t size = 4 * self->page;
	uint64_t sum, old;
	char *mem;
	int fd;

	fd = syscall(SYS_memfd_secret, 0);
	if (fd < 0)
		SKIP(return, "no secret memory");
	mem = map_secret(fd, NULL, size);
	ASSERT_NE(NULL, mem);

	/* Before there is a page, and with pages in it. */
	EXPECT_EQ(EFAULT, vsvm_gpu_checksum(&self->gpu, mem, size, &sum));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, mem, size, 1));
	vsvm_fill(mem, size, 1);
	EXPECT_EQ(EFAULT, vsvm_gpu_checksum(&self->gpu, mem, size, &sum));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, mem, size, 1));
	EXPECT_EQ(EFAULT, vsvm_gpu_add(&self->gpu, mem, 1, &old));
	EXPECT_EQ(-1, vsvm_verify(mem, size, 1));
	munmap(mem, size);
}

/* A page of it amid other memory, to which the device keeps its access. */
TEST_F_TIMEOUT(gpu, memfd_secret_amid, TIMEOUT)
{
	size_t size = 16 * self->page, i;
	char *mem = vsvm_alloc(size, size);
	uint64_t sum;
	int fd;

	fd = syscall(SYS_memfd_secret, 0);
	if (fd < 0)
		SKIP(return, "no secret memory");
	ASSERT_NE(NULL, mem);
	vsvm_fill(mem, size, 1);
	ASSERT_EQ(0, vsvm_gpu_checksum(&self->gpu, mem, size, &sum));
	EXPECT_EQ(vsvm_checksum(mem, size), sum);

	ASSERT_NE(NULL, map_secret(fd, mem + 5 * self->page, self->page));
	vsvm_fill(mem, size, 2);
	for (i = 0; i < 16; i++)
		EXPECT_EQ(i == 5 ? EFAULT : 0,
			  vsvm_gpu_checksum(&self->gpu, mem + i * self->page,
					    self->page, &sum));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, mem, size, 3));
	EXPECT_EQ(-1, vsvm_verify_value(mem, 5 * self->page, 3));
	munmap(mem, size);
}

/*
 * Write protection by userfaultfd.
 */

static int uffd_open(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		return -errno;
	return fd;
}

static int uffd_protect(int fd, void *mem, size_t size)
{
	struct uffdio_register reg = {
		.range = { (uintptr_t)mem, size },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)mem, size },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	if (ioctl(fd, UFFDIO_REGISTER, &reg) ||
	    ioctl(fd, UFFDIO_WRITEPROTECT, &wp))
		return -errno;
	return 0;
}

/* Number of pages that pagemap shows as write-protected by userfaultfd. */
static long count_protected(const void *mem, size_t npages)
{
	size_t page = getpagesize(), i;
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;
	long n = 0;

	if (fd < 0)
		return -errno;
	for (i = 0; i < npages && n >= 0; i++) {
		if (pread(fd, &entry, 8, ((uintptr_t)mem / page + i) * 8) != 8)
			n = -EIO;
		else
			n += entry >> 57 & 1;
	}
	close(fd);
	return n;
}

FIXTURE(wp)
{
	struct vsvm_gpu gpu;
	size_t page, size;
	char *mem;
};

FIXTURE_VARIANT(wp)
{
	bool shared;
	bool touched;
	uint32_t advice;
};

FIXTURE_VARIANT_ADD(wp, anon) {
	.touched = true, .advice = DRM_VSVM_ADVICE_SYSTEM,
};

FIXTURE_VARIANT_ADD(wp, anon_on_device) {
	.touched = true, .advice = DRM_VSVM_ADVICE_DEVICE,
};

FIXTURE_VARIANT_ADD(wp, anon_untouched) {
	.advice = DRM_VSVM_ADVICE_SYSTEM,
};

FIXTURE_VARIANT_ADD(wp, shared) {
	.shared = true, .touched = true, .advice = DRM_VSVM_ADVICE_SYSTEM,
};

FIXTURE_VARIANT_ADD(wp, shared_untouched) {
	.shared = true, .advice = DRM_VSVM_ADVICE_SYSTEM,
};

FIXTURE_SETUP(wp)
{
	self->page = getpagesize();
	self->size = 16 * self->page;
	ASSERT_EQ(0, vsvm_gpu_open(&self->gpu, 0));
	if (variant->shared)
		self->mem = mmap(NULL, self->size, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	else
		self->mem = vsvm_alloc(self->size, self->size);
	ASSERT_NE(NULL, self->mem);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	ASSERT_EQ(0, vsvm_advise(&self->gpu, self->mem, self->size,
				 variant->advice));
	if (variant->touched)
		vsvm_fill(self->mem, self->size, 1);
	if (variant->advice == DRM_VSVM_ADVICE_DEVICE)
		ASSERT_EQ(0, vsvm_prefetch(&self->gpu, self->mem, self->size,
					   DRM_VSVM_PLACE_DEVICE));
}

FIXTURE_TEARDOWN(wp)
{
	munmap(self->mem, self->size);
	vsvm_gpu_close(&self->gpu);
}

/*
 * The device writes as a CPU does: the kernel lifts the protection, and reports
 * it.
 */
TEST_F_TIMEOUT(wp, async, TIMEOUT)
{
	size_t page = self->page;
	uint64_t sum;
	int fd;

	fd = uffd_open(UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED |
		       UFFD_FEATURE_WP_HUGETLBFS_SHMEM);
	if (fd == -EINVAL)
		SKIP(return, "no asynchronous write protection");
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, uffd_protect(fd, self->mem, self->size));
	ASSERT_EQ(16, count_protected(self->mem, 16));

	ASSERT_EQ(0, vsvm_gpu_checksum(&self->gpu, self->mem, self->size, &sum));
	EXPECT_EQ(16, count_protected(self->mem, 16));

	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem + 3 * page, page, 7));
	EXPECT_EQ(0, count_protected(self->mem + 3 * page, 1));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 9));
	EXPECT_EQ(0, count_protected(self->mem, 16));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 9));

	/* And again, with the device's mappings in place. */
	ASSERT_EQ(0, uffd_protect(fd, self->mem, self->size));
	EXPECT_EQ(16, count_protected(self->mem, 16));
	ASSERT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 11));
	EXPECT_EQ(0, count_protected(self->mem, 16));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 11));
	close(fd);
}

/* Where a monitor has to be asked, the device cannot wait: it gets an error. */
TEST_F_TIMEOUT(wp, asks, TIMEOUT)
{
	uint64_t sum;
	int fd;

	fd = uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP |
		       UFFD_FEATURE_WP_UNPOPULATED |
		       UFFD_FEATURE_WP_HUGETLBFS_SHMEM);
	if (fd == -EINVAL)
		SKIP(return, "no write protection");
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, uffd_protect(fd, self->mem, self->size));
	EXPECT_EQ(EFAULT, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 9));
	EXPECT_EQ(16, count_protected(self->mem, 16));
	if (variant->touched)
		EXPECT_EQ(0, vsvm_gpu_checksum(&self->gpu, self->mem, self->size,
					       &sum));
	if (variant->touched)
		EXPECT_EQ(-1, vsvm_verify(self->mem, self->size, 1));
	close(fd);
	EXPECT_EQ(0, vsvm_gpu_fill(&self->gpu, self->mem, self->size, 9));
	EXPECT_EQ(-1, vsvm_verify_value(self->mem, self->size, 9));
}

/*
 * Memory cgroups.
 */

#define CGROUP "/sys/fs/cgroup/vsvm_refuse"
#define RANGES	64UL

/*
 * Of each range, the addresses of its pages are kept, 16 bytes each, beside the
 * device's page table of 8 bytes each.  Both stay when the pages go.
 */
static int work_in_ranges(struct vsvm_gpu *gpu)
{
	size_t range = gpu->query.chunk_size, i;
	long want = RANGES * range / getpagesize() * (16 + 8);
	uint64_t sum;
	char *mem;

	mem = vsvm_alloc(RANGES * range, range);
	if (!mem || vsvm_advise(gpu, mem, RANGES * range, DRM_VSVM_ADVICE_SYSTEM))
		return 3;
	for (i = 0; i < RANGES; i++) {
		if (vsvm_gpu_checksum(gpu, mem + i * range, 8, &sum))
			return 4;
		if (madvise(mem + i * range, range, MADV_DONTNEED))
			return 5;
	}
	/* The figures come a few seconds late. */
	for (i = 0; i < 100; i++) {
		if (vsvm_file_figure(CGROUP "/memory.stat", "slab") >= want)
			return 0;
		usleep(100 * 1000);
	}
	return 6;
}

/* In a child, all of whose memory belongs to a new group. */
static int run_in_cgroup(int (*work)(struct vsvm_gpu *gpu))
{
	struct vsvm_gpu gpu;
	int status;
	pid_t pid;

	if (mkdir(CGROUP, 0755))
		return -errno;
	pid = fork();
	if (!pid) {
		if (vsvm_write_file(CGROUP "/cgroup.procs", "0"))
			_exit(1);
		_exit(vsvm_gpu_open(&gpu, 0) ? 2 : work(&gpu));
	}
	status = vsvm_wait_child(pid);
	return rmdir(CGROUP) ? -errno : status;
}

/* The addresses of ranges are charged to the owner of the memory. */
TEST_F_TIMEOUT(gpu, memcg_pays_for_ranges, TIMEOUT)
{
	if (!vsvm_has_memcg())
		SKIP(return, "no memory cgroups of version 2");
	EXPECT_EQ(0, run_in_cgroup(work_in_ranges));
}

/* The charge of the group, when it does not change any more. */
static long cgroup_slab_settled(void)
{
	long slab = vsvm_file_figure(CGROUP "/memory.stat", "slab"), last;

	do {
		last = slab;
		usleep(3000 * 1000);
		slab = vsvm_file_figure(CGROUP "/memory.stat", "slab");
	} while (slab != last);
	return slab;
}

#define SPARSE		1024UL
/* The memory of a table of the device, which has entries of eight bytes */
#define TABLE_STRIDE	((size_t)getpagesize() * getpagesize() / 8)
#define NODE_STRIDE	(64 * TABLE_STRIDE)	/* and of a node over these */
#define NODE_SIZE	512	/* at least */

/* Mappings of one page that the device reads, each with its own table. */
static int read_strided(struct vsvm_gpu *gpu, size_t stride)
{
	struct drm_vsvm_op *ops = calloc(SPARSE, sizeof(*ops));
	size_t page = getpagesize(), i;
	char *base, *mem;
	int ret;

	base = mmap(NULL, (SPARSE + 1) * stride, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!ops || base == MAP_FAILED || munmap(base, (SPARSE + 1) * stride))
		return -ENOMEM;
	base += stride - (uintptr_t)base % stride;
	if (vsvm_advise(gpu, base, SPARSE * stride, DRM_VSVM_ADVICE_SYSTEM))
		return -EINVAL;

	for (i = 0; i < SPARSE; i++) {
		mem = mmap(base + i * stride, page, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		if (mem == MAP_FAILED)
			return -errno;
		*mem = 1;
		ops[i] = vsvm_op_checksum(mem, 8, gpu->result);
	}
	ret = vsvm_run(gpu, ops, SPARSE, NULL);
	free(ops);
	return ret;
}

/*
 * The same number of tables twice, the second time with as many nodes over them.
 * Notifiers, the other allocation that grows, are much less.
 */
static int work_sparsely(struct vsvm_gpu *gpu)
{
	long before, dense, sparse;

	if (gpu->query.max_ops < SPARSE || gpu->query.max_ranges < 2 * SPARSE)
		return 3;
	before = cgroup_slab_settled();
	if (read_strided(gpu, TABLE_STRIDE))
		return 4;
	dense = cgroup_slab_settled();
	if (read_strided(gpu, NODE_STRIDE))
		return 5;
	sparse = cgroup_slab_settled();
	printf("# %ld bytes for %lu tables, %ld in %lu nodes\n",
	       dense - before, SPARSE, sparse - dense, SPARSE);
	if (before < 0 || dense < before)
		return 6;
	return sparse - dense >= dense - before + (long)SPARSE * NODE_SIZE ?
	       0 : 7;
}

/* So is the structure that finds the tables, however far apart they are. */
TEST_F_TIMEOUT(gpu, memcg_pays_for_sparse_tables, TIMEOUT)
{
	if (!vsvm_has_memcg())
		SKIP(return, "no memory cgroups of version 2");
	EXPECT_EQ(0, run_in_cgroup(work_sparsely));
}

#define ADVISED_VMS	16
#define ADVICE_SIZE	32	/* at least */

static int work_with_advice(struct vsvm_gpu *gpu)
{
	uint32_t first = gpu->vm, vms[ADVISED_VMS], n = gpu->query.max_advice;
	size_t page = getpagesize();
	uint32_t i, k;
	long before;

	for (i = 0; i < ADVISED_VMS; i++)
		if (vsvm_vm_create(gpu->fd, &vms[i]))
			return 3;
	before = cgroup_slab_settled();
	for (i = 0; i < ADVISED_VMS; i++) {
		gpu->vm = vms[i];
		for (k = 0; k < n; k++)
			if (vsvm_advise(gpu, (void *)((2 * k + 1) * page), page,
					DRM_VSVM_ADVICE_SYSTEM))
				return 4;
	}
	gpu->vm = first;
	printf("# %ld bytes for %u pieces of advice\n",
	       cgroup_slab_settled() - before, ADVISED_VMS * n);
	return cgroup_slab_settled() - before >=
	       (long)ADVISED_VMS * n * ADVICE_SIZE ? 0 : 5;
}

/* And so is advice. */
TEST_F_TIMEOUT(gpu, memcg_pays_for_advice, TIMEOUT)
{
	if (!vsvm_has_memcg())
		SKIP(return, "no memory cgroups of version 2");
	EXPECT_EQ(0, run_in_cgroup(work_with_advice));
}

TEST_HARNESS_MAIN
